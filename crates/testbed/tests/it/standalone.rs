use bson::{Document, doc};
use mdb_testbed::{Deployment, DeploymentError};
use mongodb::options::WriteConcern;
use mongodb::{Client, Collection};

/// With a new client, whose connections know nothing of a server that ran before.
async fn things(deployment: &Deployment) -> Collection<Document> {
    let client = deployment.client().await.unwrap();
    client.database("test").collection("things")
}

#[tokio::test]
async fn data_outlives_a_stop_and_a_kill() {
    let deployment = Deployment::standalone().start().await.unwrap();
    let member = deployment.member(0);
    let addresses = deployment.hosts();

    things(&deployment)
        .await
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    member.stop().await.unwrap();
    assert_eq!(member.process_id(), None);
    member.restart().await.unwrap();

    let things_again = things(&deployment).await;
    let journaled = WriteConcern::builder().journal(true).build();
    let write = things_again.insert_one(doc! { "_id": 2 });
    write.write_concern(journaled).await.unwrap();
    member.kill().unwrap();
    member.restart().await.unwrap();

    assert_eq!(deployment.hosts(), addresses);
    let count = things(&deployment).await.count_documents(doc! {}).await;
    assert_eq!(count.unwrap(), 2);
    assert_eq!(deployment.primary().await.unwrap(), 0);
    assert!(deployment.log_tail(5).contains("\"msg\""));
    assert_eq!(member.log_tail(5).lines().count(), 5);
}

#[tokio::test]
async fn access_control_wants_one_of_the_users() {
    let deployment = Deployment::standalone().with_auth().start().await.unwrap();
    let anonymous = format!("mongodb://{}", deployment.member(0).address());
    for (uri, may_list, may_change) in [
        (deployment.uri(), true, true),
        (deployment.proxy_uri(), true, false),
        (anonymous, false, false),
    ] {
        let client = Client::with_uri_str(&uri).await.unwrap();
        let outcome = client.list_database_names().await;
        assert_eq!(outcome.is_ok(), may_list, "{uri}: {outcome:?}");
        let change = doc! { "setParameter": 1, "logLevel": 0 };
        let outcome = client.database("admin").run_command(change).await;
        assert_eq!(outcome.is_ok(), may_change, "{uri}: {outcome:?}");
    }
}

#[tokio::test]
async fn arguments_reach_the_server_and_replace_the_defaults() {
    let parameter = "shutdownTimeoutMillisForSignaledShutdown";
    let argument = format!("{parameter}=7");
    let builder = Deployment::standalone().mongod_args(&["--setParameter", &argument]);
    let deployment = builder.start().await.unwrap();
    let admin = deployment.client().await.unwrap().database("admin");
    let reply = admin
        .run_command(doc! { "getParameter": 1, parameter: 1 })
        .await
        .unwrap();
    assert_eq!(reply.get_i32(parameter).unwrap(), 7);
    let reply = admin.run_command(doc! { "buildInfo": 1 }).await.unwrap();
    assert_eq!(reply.get_str("version").unwrap(), deployment.version());
}

#[tokio::test]
async fn a_server_that_ends_at_once_is_reported_with_its_log() {
    let builder = Deployment::standalone().mongod_args(&["--noSuchOption"]);
    let error = builder.start().await.unwrap_err();
    assert!(
        matches!(error, DeploymentError::Exited { member: 0, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("noSuchOption"), "{error}");
}

#[tokio::test]
async fn a_member_that_does_not_run_says_so() {
    let deployment = Deployment::standalone().start().await.unwrap();
    let member = deployment.member(0);
    member.kill().unwrap();
    let outcomes = [
        member.kill(),
        member.stop().await,
        member.pause(),
        member.resume(),
        deployment.primary().await.map(drop),
    ];
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, DeploymentError::NotRunning { member: 0 }),
            "{error}"
        );
    }
}
