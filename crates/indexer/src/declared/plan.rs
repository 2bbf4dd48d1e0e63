//! What is to be done about the indexes of one collection: the manifest's wishes against what is there.

use std::collections::BTreeMap;

use bson::Document;

use crate::declared::wish::{Wish, stand_in_name};

/// The app's indexes as its `listIndexes` shows them, by their names, without that on `_id`.
pub(crate) type Listed = BTreeMap<String, Document>;

/// What was recorded of the indexes of a collection, by their names.
pub(crate) type Recorded = BTreeMap<String, Record>;

/// What is known of an index that a manifest asks for, or asked for once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// What was asked for.
    pub(crate) wish: Wish,
    /// What the server made of it, as `listIndexes` showed it. `None` until it was built.
    pub(crate) spec: Option<Document>,
    /// Whether the proxy has built it. One that the app has made itself is never dropped.
    pub(crate) is_made: bool,
    /// Whether it only stands in for another one.
    pub(crate) is_stand_in: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// It is not there.
    Build(Wish),
    /// One of this name is there and was not compared with this wish yet: the server says whether it is the same.
    Confirm(Wish),
    /// `collMod` makes what is there what it should be.
    Modify(Wish),
    /// One that the proxy has built is another one now.
    Replace {
        /// What should be there.
        wish: Wish,
        /// The name of what is there.
        old: String,
    },
    /// What is there is the app's own and differs by what the server does not look at.
    Differs(Wish),
    /// It is asked for no more, and `prune` says that it goes; or it has stood in for long enough.
    Drop {
        /// Which.
        name: String,
        /// Whether it only stood in.
        is_stand_in: bool,
    },
    /// Its record is about nothing.
    Forget(String),
}

impl Step {
    /// The index that it is about.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Build(wish)
            | Self::Confirm(wish)
            | Self::Modify(wish)
            | Self::Differs(wish)
            | Self::Replace { wish, .. } => &wish.name,
            Self::Drop { name, .. } | Self::Forget(name) => name,
        }
    }
}

/// What is to be done about one collection.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// In this order: nothing goes before what is asked for is there.
    pub(crate) steps: Vec<Step>,
    /// What the proxy has built, nobody asks for any more, and stays.
    pub(crate) absent: Vec<String>,
}

/// Compares. What is as it should be leads to nothing at all.
///
/// The server's normalised definition is never guessed at: it was recorded when the index was built, beside the wish that led to
/// it. Where either differs now, the server is asked.
pub(crate) fn plan(wishes: &[Wish], listed: &Listed, recorded: &Recorded, prune: bool) -> Plan {
    let mut plan = Plan::default();
    for wish in wishes {
        plan.steps.extend(for_wish(wish, wishes, listed, recorded));
    }
    let mut drops = Vec::new();
    for (name, record) in recorded {
        if wishes.iter().any(|wish| wish.name == *name) {
            continue;
        }
        let is_replaced = plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::Replace { old, .. } if old == name));
        if is_replaced {
            continue;
        }
        let is_needed = plan
            .steps
            .iter()
            .any(|step| stand_in_name(step.name()) == *name);
        if !record.is_made || !listed.contains_key(name) {
            if !(record.is_stand_in && is_needed) {
                drops.push(Step::Forget(name.clone()));
            }
        } else if record.is_stand_in && !is_needed || prune && !record.is_stand_in {
            drops.push(Step::Drop {
                name: name.clone(),
                is_stand_in: record.is_stand_in,
            });
        } else if !record.is_stand_in {
            plan.absent.push(name.clone());
        }
    }
    plan.steps.extend(drops);
    plan
}

fn for_wish(wish: &Wish, wishes: &[Wish], listed: &Listed, recorded: &Recorded) -> Option<Step> {
    let record = recorded.get(&wish.name);
    let Some(found) = listed.get(&wish.name) else {
        // The server takes no second index that differs by its name only.
        let renamed = recorded.iter().find(|(name, record)| {
            let is_wished = wishes.iter().any(|wish| wish.name == **name);
            record.is_made
                && !is_wished
                && listed.contains_key(*name)
                && record.wish.is_same_index(wish)
        });
        return Some(match renamed {
            Some((old, _)) => Step::Replace {
                wish: wish.clone(),
                old: old.clone(),
            },
            None => Step::Build(wish.clone()),
        });
    };
    let Some(record) = record else {
        return Some(confirm(wish, found));
    };
    if record.wish != *wish {
        return Some(if !record.is_made {
            confirm(wish, found)
        } else if wish.is_modification_of(&record.wish) {
            Step::Modify(wish.clone())
        } else {
            Step::Replace {
                wish: wish.clone(),
                old: wish.name.clone(),
            }
        });
    }
    if record.spec.as_ref() == Some(found) {
        return None;
    }
    let is_modified = record
        .spec
        .as_ref()
        .and_then(Wish::read)
        .zip(Wish::read(found))
        .is_some_and(|(before, now)| now.is_modification_of(&before));
    Some(if record.is_made && is_modified {
        Step::Modify(wish.clone())
    } else {
        confirm(wish, found)
    })
}

/// Servers take a hidden index for the same as one that is not (4.4.2, 6.0.5).
fn confirm(wish: &Wish, found: &Document) -> Step {
    let is_hidden = found.get_bool("hidden").unwrap_or(false);
    if is_hidden == wish.has("hidden") {
        Step::Confirm(wish.clone())
    } else {
        Step::Differs(wish.clone())
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn wish(name: &str, field: &str, options: Document) -> Wish {
        Wish::new(name, doc! {field: 1}, options)
    }

    fn spec(wish: &Wish) -> Document {
        let mut spec = doc! {"v": 2};
        spec.extend(wish.definition());
        spec
    }

    fn listed(specs: &[Document]) -> Listed {
        let named = |spec: &Document| (spec.get_str("name").unwrap().to_owned(), spec.clone());
        specs.iter().map(named).collect()
    }

    fn record(wish: &Wish) -> Record {
        Record {
            wish: wish.clone(),
            spec: Some(spec(wish)),
            is_made: true,
            is_stand_in: false,
        }
    }

    fn recorded(records: Vec<Record>) -> Recorded {
        records
            .into_iter()
            .map(|record| (record.wish.name.clone(), record))
            .collect()
    }

    fn steps(wishes: &[Wish], listed: &Listed, records: Vec<Record>) -> Vec<Step> {
        plan(wishes, listed, &recorded(records), false).steps
    }

    #[test]
    fn what_is_as_it_should_be_leads_to_nothing() {
        let a = wish("a", "a", doc! {"unique": true});
        let wishes = std::slice::from_ref(&a);
        let found = plan(
            wishes,
            &listed(&[spec(&a)]),
            &recorded(vec![record(&a)]),
            true,
        );
        assert_eq!(found, Plan::default());
    }

    #[test]
    fn each_difference_has_its_step() {
        let a = wish("a", "a", doc! {});
        let b = wish("a", "b", doc! {});
        let hidden = wish("a", "a", doc! {"hidden": true});
        let mut lost = record(&a);
        lost.spec = None;
        let mut own = record(&a);
        own.is_made = false;
        let replace = |wish: &Wish, old: &str| Step::Replace {
            wish: wish.clone(),
            old: old.to_owned(),
        };
        let there = listed(&[spec(&a)]);
        let nothing = Listed::new();
        let cases = [
            (
                "missing",
                &a,
                &nothing,
                vec![],
                Some(Step::Build(a.clone())),
            ),
            (
                "gone",
                &a,
                &nothing,
                vec![record(&a)],
                Some(Step::Build(a.clone())),
            ),
            (
                "the app's",
                &a,
                &there,
                vec![],
                Some(Step::Confirm(a.clone())),
            ),
            (
                "broken off",
                &a,
                &there,
                vec![lost],
                Some(Step::Confirm(a.clone())),
            ),
            ("the app's, known", &a, &there, vec![own.clone()], None),
            (
                "changed",
                &b,
                &there,
                vec![record(&a)],
                Some(replace(&b, "a")),
            ),
            (
                "the app's, changed",
                &b,
                &there,
                vec![own.clone()],
                Some(Step::Confirm(b.clone())),
            ),
            (
                "hidden",
                &hidden,
                &there,
                vec![record(&a)],
                Some(Step::Modify(hidden.clone())),
            ),
            (
                "the app's, hidden",
                &hidden,
                &there,
                vec![own],
                Some(Step::Differs(hidden.clone())),
            ),
        ];
        for (case, wish, listed, records, expected) in cases {
            let found = steps(std::slice::from_ref(wish), listed, records);
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{case}");
        }
    }

    #[test]
    fn what_somebody_else_has_altered_is_mended() {
        let a = wish("a", "a", doc! {"expireAfterSeconds": 5});
        let altered = wish("a", "a", doc! {"expireAfterSeconds": 6});
        let other = wish("a", "b", doc! {});
        for (now, expected) in [
            (&altered, Step::Modify(a.clone())),
            (&other, Step::Confirm(a.clone())),
        ] {
            let found = steps(
                std::slice::from_ref(&a),
                &listed(&[spec(now)]),
                vec![record(&a)],
            );
            assert_eq!(found, [expected]);
        }
    }

    #[test]
    fn what_is_asked_for_no_more_stays_unless_it_is_pruned() {
        let (a, b) = (wish("a", "a", doc! {}), wish("b", "b", doc! {}));
        let mut own = record(&b);
        own.is_made = false;
        let there = listed(&[spec(&a), spec(&b)]);
        let records = recorded(vec![record(&a), own]);
        let kept = plan(&[], &there, &records, false);
        assert_eq!(kept.absent, ["a"]);
        assert_eq!(kept.steps, [Step::Forget("b".to_owned())]);
        let pruned = plan(&[], &there, &records, true);
        let drop = Step::Drop {
            name: "a".to_owned(),
            is_stand_in: false,
        };
        assert_eq!(pruned.absent, Vec::<String>::new());
        assert_eq!(pruned.steps, [drop, Step::Forget("b".to_owned())]);
    }

    #[test]
    fn a_new_name_is_a_replacement() {
        let (old, new) = (wish("old", "a", doc! {}), wish("new", "a", doc! {}));
        let found = plan(
            std::slice::from_ref(&new),
            &listed(&[spec(&old)]),
            &recorded(vec![record(&old)]),
            true,
        );
        let replace = Step::Replace {
            wish: new,
            old: "old".to_owned(),
        };
        assert_eq!(found.steps, [replace]);
        assert_eq!(found.absent, Vec::<String>::new());
    }

    #[test]
    fn a_stand_in_goes_when_its_index_is_there() {
        let a = wish("a", "a", doc! {});
        let stand_in = a.stand_in().unwrap();
        let mut record_of = record(&stand_in);
        record_of.is_stand_in = true;
        let both = listed(&[spec(&a), spec(&stand_in)]);
        let wishes = std::slice::from_ref(&a);
        let found = steps(wishes, &both, vec![record(&a), record_of.clone()]);
        let drop = Step::Drop {
            name: "a~".to_owned(),
            is_stand_in: true,
        };
        assert_eq!(found, [drop]);
        let alone = listed(&[spec(&stand_in)]);
        let found = steps(wishes, &alone, vec![record_of]);
        assert_eq!(found, [Step::Build(a.clone())]);
    }
}
