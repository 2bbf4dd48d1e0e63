//! Properties: of any command, whether it goes upstream guarded or not at all; of any reply, whether it comes back clean.

use std::collections::HashSet;

use mdb_scope::{CollectionFacts, Incident, Refusal, ReplyRule, ReplyView, glance, verify};
use mdb_wire::{Document, Limits, Message, Writer, next_frame};
use proptest::prelude::*;

use crate::matcher;
use crate::notation::{Fields, Text, Value, encode, read_text};
use crate::proxy::{self, FIELD, Outcome, SLUG};

mod generate;
mod positions;
mod structure;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        // A failure becomes a case, by hand.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Bytes that rewriting adds to a command once: its filter, a hint, a session.
const GROWTH_BYTES: usize = 256;
/// Bytes that it adds at most for each place that it binds: the condition with its pattern (80), the stages around an update's
/// pipeline (170), a hint (22), the document without the field in place of `$$ROOT` (66).
const GROWTH_BYTES_PER_PLACE: usize = 256;

fn collection() -> CollectionFacts {
    let index = r#"{v: 2, key: {app_id: 1, x: 1}, name: "shop.x_1", partialFilterExpression: {app_id: "shop"}}"#;
    proxy::collection(proxy::hidden(), &[index.to_owned()], true)
}

/// What goes upstream for a command, checked by the second opinion.
fn apply(text: &Text) -> Result<Option<Text>, Refusal> {
    apply_message(&proxy::message(&text.message()))
}

fn apply_message(message: &Message) -> Result<Option<Text>, Refusal> {
    let collection = collection();
    let facts = proxy::facts(&collection);
    match proxy::run(proxy::hidden(), &facts, None, message)? {
        Outcome::Local => Ok(None),
        Outcome::Forwarded(mut scoped, spec) => {
            if matches!(spec.duty, mdb_scope::Duty::Forward(_)) {
                let verdict = verify::verify(scoped.message(1), FIELD, SLUG);
                assert_eq!(verdict, Ok(()), "{}", Text::of(message));
            }
            match scoped.refused().first() {
                Some(refused) => Err(refused.refusal.clone()),
                None => Ok(Some(proxy::upstream(&mut scoped))),
            }
        }
    }
}

/// The ids of the documents that a command's first filter position takes.
fn taken(text: &Text, documents: &[Fields]) -> HashSet<String> {
    let id = |d: &Fields| d[0].1.to_string();
    if let Some(Value::Array(stages)) = matcher::field(&text.body, "pipeline") {
        return matcher::aggregate(stages, documents)
            .iter()
            .map(id)
            .collect();
    }
    let statement = text.sequences.first().map(|(_, statements)| &statements[0]);
    let (holder, names) = statement.map_or((&text.body, ["filter", "query"]), |s| (s, ["q", "q"]));
    let filter = names.iter().find_map(|name| matcher::field(holder, name));
    let Some(Value::Document(filter)) = filter else {
        panic!("no filter: {text}");
    };
    documents
        .iter()
        .filter(|d| matcher::matches(filter, d))
        .map(id)
        .collect()
}

fn is_own(document: &Fields) -> bool {
    matcher::field(document, FIELD).and_then(Value::as_str) == Some(SLUG)
}

/// What an app that is alone with its documents gets: those that its filters take.
fn expected(filters: &[Fields], documents: &[Fields]) -> HashSet<String> {
    let takes = |d: &Fields| filters.iter().all(|f| matcher::matches(f, d));
    let own = documents.iter().filter(|d| is_own(d));
    own.map(matcher::logical)
        .filter(takes)
        .map(|d| d[0].1.to_string())
        .collect()
}

proptest! {
    #![proptest_config(config())]

    /// Whatever is sent, it is refused or what goes upstream is guarded, and hardly longer.
    #[test]
    fn what_goes_upstream_is_guarded(text in generate::command(), mutations in generate::mutations()) {
        let mut text = text;
        for mutation in &mutations {
            structure::mutate(&mut text, mutation);
        }
        if let Ok(Some(upstream)) = apply(&text) {
            let allowed = GROWTH_BYTES + GROWTH_BYTES_PER_PLACE * structure::places(&text);
            let growth = upstream.message().len().saturating_sub(text.message().len());
            prop_assert!(growth <= allowed, "{growth} bytes more: {text}");
        }
    }

    /// The bytes of a command with some of them changed at random: no panic, and nothing unguarded.
    #[test]
    fn damaged_messages_do_no_harm(
        text in generate::command(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = text.message();
        for (place, byte) in damage {
            let place = 20 + place.index(bytes.len() - 20);
            bytes[place] = byte;
        }
        let mut buffer = bytes.as_slice().into();
        if let Ok(Some(frame)) = next_frame(&mut buffer, Limits::default())
            && let Ok(message) = Message::parse(frame)
        {
            let _outcome = apply_message(&message);
        }
    }

    /// Of all documents the app gets those that are its own and that its own filter takes.
    #[test]
    fn conditions_are_kept(
        filter in generate::private_filter(),
        form in generate::filtered_command(),
        documents in generate::documents(),
    ) {
        let text = form(&filter);
        let upstream = apply(&text).unwrap().unwrap();
        let expected = expected(&[filter], &documents);
        prop_assert_eq!(taken(&upstream, &documents), expected, "{} became {}", text, upstream);
    }

    /// The same where the filter names the app itself, which holds for each of its documents.
    #[test]
    fn conditions_that_name_the_app_are_kept(
        filter in generate::plain_filter(),
        form in generate::filtered_command(),
        documents in generate::documents(),
    ) {
        let text = form(&filter);
        let upstream = apply(&text).unwrap().unwrap();
        let own: Vec<Fields> = documents.iter().filter(|d| is_own(d)).cloned().collect();
        let expected: HashSet<_> =
            own.iter().filter(|d| matcher::matches(&filter, d)).map(|d| d[0].1.to_string()).collect();
        prop_assert_eq!(taken(&upstream, &documents), expected, "{} became {}", text, upstream);
    }

    /// The same for a pipeline of matches, which sees the documents without the field.
    #[test]
    fn conditions_of_pipelines_are_kept(
        filters in proptest::collection::vec(generate::private_filter(), 0..4),
        documents in generate::documents(),
    ) {
        let stage = |f: &Fields| Value::Document(vec![("$match".to_owned(), Value::Document(f.clone()))]);
        let mut text = read_text(r#"{aggregate: "c", cursor: {}, $db: "d"}"#);
        text.body.push(("pipeline".to_owned(), Value::Array(filters.iter().map(stage).collect())));
        let upstream = apply(&text).unwrap().unwrap();
        let expected = expected(&filters, &documents);
        prop_assert_eq!(taken(&upstream, &documents), expected, "{} became {}", text, upstream);
    }

    /// Scoping what is scoped already takes the same documents: the app's condition is known as its own.
    #[test]
    fn twice_is_once(
        filter in generate::plain_filter(),
        form in generate::filtered_command(),
        documents in generate::documents(),
    ) {
        let once = apply(&form(&filter)).unwrap().unwrap();
        // A physical hint is not the app's to give.
        let mut again = once.clone();
        structure::drop_field(&mut again, "hint");
        match apply(&again) {
            Ok(twice) => prop_assert_eq!(taken(&once, &documents), taken(&twice.unwrap(), &documents)),
            // The pattern that stands beside the condition under a collation is not the app's to give either.
            Err(refusal) => {
                prop_assert_eq!(refusal.code, 2);
                prop_assert!(once.to_string().contains("collation"), "{}", once);
            }
        }
    }

    /// Documents that carry the app already are written as they are.
    #[test]
    fn documents_are_stamped_once(document in generate::data()) {
        let mut text = read_text(r#"{insert: "c", $db: "d"}"#);
        text.sequences.push(("documents".to_owned(), vec![document]));
        let once = apply(&text).unwrap().unwrap();
        let twice = apply(&once).unwrap().unwrap();
        prop_assert_eq!(&once, &twice);
        let owners = once.sequences[0].1[0].iter().filter(|(name, _)| name == FIELD).count();
        prop_assert_eq!(owners, 1);
    }

    /// A name that no table has is refused wherever it stands for an operator, a stage or an argument.
    #[test]
    fn unknown_names_are_refused(template in generate::place_for_a_name(), name in "\\$[a-z]{2,4}Zz[A-Z]?") {
        let refusal = apply(&read_text(&template.replace('@', &name)));
        prop_assert!(refusal.is_err(), "{} in {}", name, template);
    }

    /// Any reply is passed on as a document or becomes an incident.
    #[test]
    fn replies_never_panic(reply in generate::reply(), rule in generate::reply_rule()) {
        let _outcome = client(&reply, rule);
    }

    /// A foreign owner in a batch never passes, wherever it stands in its document.
    #[test]
    fn foreign_documents_never_pass(
        before in proptest::collection::vec(generate::data(), 0..3),
        document in generate::data(),
        owner in generate::foreign_owner(),
        place in any::<prop::sample::Index>(),
        batch in prop::sample::select(vec!["firstBatch", "nextBatch"]),
    ) {
        let mut document: Fields = document.into_iter().filter(|(name, _)| name != FIELD).collect();
        document.insert(place.index(document.len() + 1), (FIELD.to_owned(), owner));
        let documents = before.into_iter().chain([document]).map(Value::Document).collect();
        let cursor = vec![
            (batch.to_owned(), Value::Array(documents)),
            ("id".to_owned(), Value::int(0)),
        ];
        let reply = vec![
            ("cursor".to_owned(), Value::Document(cursor)),
            ("ok".to_owned(), Value::int(1)),
        ];
        let outcome = client(&reply, ReplyRule::Cursor { strips: true });
        prop_assert_eq!(outcome, Err(Incident::ForeignDocument));
    }
}

/// The reply that the client gets; it must be a document.
fn client(reply: &Fields, rule: ReplyRule) -> Result<Fields, Incident> {
    let collection = collection();
    let view = ReplyView {
        scope: proxy::hidden(),
        rule,
        collection: &collection,
        database: "d",
        dedicated: &[],
        continues: None,
        shares: true,
    };
    let bytes = encode(reply);
    let mut w = Writer::default();
    let mark = w.begin();
    let reply = Document::parse(&bytes).unwrap();
    view.write(&mut w, reply, &glance(reply), &mut |id| id)?;
    w.end(mark);
    let bytes = w.into_bytes();
    Ok(crate::notation::fields(Document::parse(&bytes).unwrap()))
}
