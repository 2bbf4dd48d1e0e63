use bson::{Document, doc};
use mdb_testbed::Deployment;
use mongodb::options::{Acknowledgment, ReadConcern, WriteConcern};
use mongodb::{Client, Collection};

async fn things(deployment: &Deployment) -> Collection<Document> {
    let client = deployment.client().await.unwrap();
    client.database("test").collection("things")
}

/// All members have it, or the driver gives an error.
async fn write(deployment: &Deployment, id: i32, members: u32) {
    let things = things(deployment).await;
    let write = things.insert_one(doc! { "_id": id });
    let concern = WriteConcern::builder()
        .w(Acknowledgment::Nodes(members))
        .build();
    write.write_concern(concern).await.unwrap();
}

#[tokio::test]
async fn with_auth_it_survives_the_loss_of_its_primary() {
    let deployment = Deployment::replica_set(3)
        .with_auth()
        .start()
        .await
        .unwrap();
    assert_eq!(deployment.hosts().len(), 3);
    write(&deployment, 1, 3).await;

    let killed = deployment.kill_primary().await.unwrap();
    assert_eq!(deployment.member(killed).process_id(), None);
    let elected = deployment.primary().await.unwrap();
    assert_ne!(elected, killed);
    write(&deployment, 2, 2).await;

    deployment.member(killed).restart().await.unwrap();
    deployment.all_in_service().await.unwrap();
    write(&deployment, 3, 3).await;
    for index in 0..3 {
        let client = Client::with_uri_str(deployment.direct_uri(index))
            .await
            .unwrap();
        let things = client.database("test").collection::<Document>("things");
        let count = things.count_documents(doc! {});
        let count = count.read_concern(ReadConcern::local()).await.unwrap();
        assert_eq!(count, 3, "member {index}");
    }
}

#[tokio::test]
async fn the_primary_changes_when_it_steps_down_and_when_it_is_paused() {
    let deployment = Deployment::replica_set(3).start().await.unwrap();

    let former = deployment.step_down().await.unwrap();
    let second = deployment.primary().await.unwrap();
    assert_ne!(second, former);
    deployment.all_in_service().await.unwrap();

    deployment.member(second).pause().unwrap();
    let third = deployment.primary().await.unwrap();
    assert_ne!(third, second);
    deployment.member(second).resume().unwrap();
    deployment.all_in_service().await.unwrap();
    write(&deployment, 1, 3).await;
}

#[tokio::test]
async fn one_member_is_enough_for_transactions() {
    let deployment = Deployment::replica_set(1).start().await.unwrap();
    let client = deployment.client().await.unwrap();
    let things = client.database("test").collection::<Document>("things");
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let write = things.insert_one(doc! { "_id": 1 });
    write.session(&mut session).await.unwrap();
    assert_eq!(things.count_documents(doc! {}).await.unwrap(), 0);
    session.commit_transaction().await.unwrap();
    assert_eq!(things.count_documents(doc! {}).await.unwrap(), 1);
}
