//! Sequences of commands: valid ones mostly, a pure function of the seed.

use bson::{Bson, Document, doc};

use super::definitions;
use super::dice::Dice;
use super::pipelines::{self, COLLECTIONS};
use super::step::{Compare, Step};
use super::updates::{self, Update};
use super::values::{self, Owner};

/// Makes commands of one app, and remembers what decides how far their replies are fixed.
#[derive(Debug)]
pub(super) struct Generator {
    pub(super) dice: Dice,
    pub(super) owner: Owner,
    /// Whether each collection may have an index that a private server would read by.
    pub(super) indexed: [bool; COLLECTIONS.len()],
    /// Whether all collections are the app's own.
    pub(super) is_dedicated: bool,
    /// What the proxy does not serve in front of these servers.
    lacks: Lacks,
    transactions: i64,
}

/// What one draw gives: one command, or several that belong together.
type Unit = fn(&mut Generator) -> Vec<Step>;

const UNITS: &[(i32, Unit)] = &[
    (14, Generator::insert),
    (16, Generator::find),
    (4, Generator::cursor),
    (5, Generator::count),
    (4, Generator::distinct),
    (14, Generator::update),
    (5, Generator::delete),
    (8, Generator::find_and_modify),
    (18, Generator::aggregate),
    (7, Generator::create_index),
    (3, Generator::drop_index),
    (3, Generator::catalog),
    (2, Generator::drop),
    (3, Generator::transaction),
    (3, Generator::retry),
    (3, Generator::session),
    (2, Generator::explain),
    (4, Generator::kind),
    (4, Generator::view),
    (4, Generator::output),
    (2, Generator::text),
    (3, Generator::geo),
    (3, Generator::figures),
    (3, Generator::change),
    (3, Generator::stream),
    (2, Generator::operation),
    (2, Generator::nonsense),
];

/// Which servers these are older than. What is then refused on shared collections would make everything behind it differ: it is
/// not drawn.
#[derive(Debug, Clone, Copy, Default)]
struct Lacks {
    five: bool,
    six: bool,
}

impl Lacks {
    /// Whether `docs/compatibility.md` says of the step that it is not served.
    fn concerns(self, step: &Step) -> bool {
        let text = step.print();
        let stages = step.command.get_array("pipeline");
        let has_stages_behind = stages.is_ok_and(|stages| stages.len() > 1);
        let figures = ["$collStats", "$indexStats"].iter();
        let is_sparse = step.command.contains_key("createIndexes") && text.contains("sparse");
        let of_six = is_sparse
            || text.contains("$changeStream")
            || has_stages_behind && { figures }.any(|stage| text.contains(stage));
        let is_whole = ["$$ROOT", "$$CURRENT"].iter();
        let is_filter = !step.command.contains_key("pipeline") || text.contains("$geoNear");
        let of_five = is_filter && { is_whole }.any(|whole| text.contains(whole))
            || ["$$new", "returnKey"]
                .iter()
                .any(|word| text.contains(word));
        self.six && of_six || self.five && of_five
    }
}

impl Generator {
    pub(super) fn new(seed: u64, owner: Owner) -> Self {
        Self {
            dice: Dice::new(seed),
            owner,
            indexed: [false; COLLECTIONS.len()],
            is_dedicated: false,
            lacks: Lacks::default(),
            transactions: 0,
        }
    }

    /// For an app whose collections are all its own.
    pub(super) fn dedicated(mut self, is_dedicated: bool) -> Self {
        self.is_dedicated = is_dedicated;
        self
    }

    /// For servers that may be older than what shared collections are served with.
    pub(super) fn before(mut self, five: bool, six: bool) -> Self {
        self.lacks = Lacks { five, six };
        self
    }

    /// Documents to begin with, then `length` draws.
    pub(super) fn sequence(&mut self, length: usize) -> Vec<Step> {
        let mut steps: Vec<Step> = (0..COLLECTIONS.len())
            .map(|at| self.seed_documents(at))
            .collect();
        for _ in 0..length {
            steps.extend(self.unit());
        }
        steps.extend(definitions::inventory());
        steps
    }

    pub(super) fn unit(&mut self) -> Vec<Step> {
        loop {
            let unit = self.dice.weighted(UNITS);
            let steps = unit(self);
            if self.is_dedicated || !steps.iter().any(|step| self.lacks.concerns(step)) {
                return steps;
            }
        }
    }

    fn seed_documents(&mut self, at: usize) -> Step {
        let documents = self.documents(6);
        Step::new(
            doc! {"insert": COLLECTIONS[at], "documents": documents, "ordered": false},
            Compare::Exact,
        )
    }

    pub(super) fn documents(&mut self, most: i32) -> Vec<Document> {
        let size = self.dice.between(1, most);
        (0..size)
            .map(|_| values::document(&mut self.dice, self.owner))
            .collect()
    }

    pub(super) fn collection(&mut self) -> (usize, &'static str) {
        let at = self.dice.weighted(&[(6, 0), (3, 1), (2, 2)]);
        (at, COLLECTIONS[at])
    }

    fn filter(&mut self) -> Document {
        if self.dice.chance(30) {
            values::id_filter(&mut self.dice, self.owner)
        } else {
            values::filter(&mut self.dice)
        }
    }

    /// Whether documents come in the order of their records without being asked to.
    fn is_ordered(&self, at: usize, filter: &Document) -> bool {
        filter.is_empty() || !self.indexed[at] && !filter.contains_key("_id")
    }

    /// One whose first document is the same on every server.
    fn decided_filter(&mut self, at: usize) -> Document {
        let filter = self.filter();
        let is_id = filter
            .get("_id")
            .is_some_and(|id| id.as_document().is_none_or(|d| !is_operator(d)));
        if is_id || self.is_ordered(at, &filter) {
            return filter;
        }
        doc! {"_id": values::id(&mut self.dice, self.owner)}
    }

    pub(super) fn insert(&mut self) -> Vec<Step> {
        let (_, collection) = self.collection();
        let id = values::id(&mut self.dice, self.owner);
        let documents = if self.dice.chance(3) {
            vec![self.dice.pick(&[
                doc! {"_id": [1]},
                doc! {"_id": id, "$bad": 1},
                doc! {"_id": {"$a": 1}},
            ])]
        } else {
            self.documents(3)
        };
        let mut command = doc! {"insert": collection, "documents": documents};
        if self.dice.chance(40) {
            command.insert("ordered", self.dice.chance(50));
        }
        vec![Step::new(command, Compare::Exact)]
    }

    pub(super) fn find(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        let filter = self.filter();
        let is_ordered = self.is_ordered(at, &filter);
        let mut command = doc! {"find": collection, "filter": filter};
        let is_total = !is_ordered && self.dice.chance(60) || self.dice.chance(30);
        if is_total {
            command.insert("sort", values::total_sort(&mut self.dice));
        }
        if is_total || is_ordered {
            if self.dice.chance(25) {
                command.insert("skip", self.dice.between(0, 4));
            }
            if self.dice.chance(25) {
                // A negative one is a mistake, and of two either may be told.
                let least = if command.get_document("filter").is_ok_and(Document::is_empty) {
                    -3
                } else {
                    0
                };
                command.insert("limit", self.dice.between(least, 4));
            }
        }
        let is_mistaken = command.get_i32("limit").is_ok_and(|limit| limit < 0);
        if self.dice.chance(40) && !is_mistaken {
            command.insert("projection", pipelines::projection(&mut self.dice));
        }
        if self.dice.chance(10) {
            command.insert("collation", values::collation(&mut self.dice));
        }
        if self.dice.chance(5) {
            command.insert("returnKey", true);
        }
        let hints = definitions::hint(&mut self.dice);
        // Of two mistakes in one command either may be the one that is told.
        if let (Some(hint), true) = (hints, self.dice.chance(12))
            && !is_mistaken
        {
            command.insert("hint", hint);
        }
        let is_decided = is_total || is_ordered && !command.contains_key("hint");
        let compare = if is_decided {
            Compare::Exact
        } else {
            Compare::Set
        };
        vec![Step::new(command, compare)]
    }

    pub(super) fn cursor(&mut self) -> Vec<Step> {
        let (_, collection) = self.collection();
        let size = self.dice.between(0, 2);
        let open = if self.dice.chance(50) {
            doc! {"find": collection, "sort": {"_id": 1}, "batchSize": size}
        } else {
            doc! {"aggregate": collection, "pipeline": [{"$sort": {"_id": -1}}], "cursor": {"batchSize": size}}
        };
        let more = doc! {"getMore": "<cursor>", "collection": collection, "batchSize": 2};
        let mut steps = vec![
            Step::new(open, Compare::Exact),
            Step::new(more, Compare::Exact),
        ];
        let end = if self.dice.chance(50) {
            doc! {"killCursors": collection, "cursors": ["<cursor>"]}
        } else {
            doc! {"getMore": "<cursor>", "collection": collection}
        };
        steps.push(Step::new(end, Compare::Exact));
        if self.dice.chance(30) {
            steps.push(Step::new(
                doc! {"getMore": "<cursor>", "collection": collection},
                Compare::Exact,
            ));
        }
        steps
    }

    pub(super) fn count(&mut self) -> Vec<Step> {
        let (_, collection) = self.collection();
        let mut command = doc! {"count": collection};
        if self.dice.chance(70) {
            command.insert("query", self.filter());
        }
        if self.dice.chance(20) {
            command.insert("limit", self.dice.between(0, 3));
            command.insert("skip", self.dice.between(0, 3));
        }
        if self.dice.chance(15) {
            command.insert("collation", values::collation(&mut self.dice));
        }
        vec![Step::new(command, Compare::Exact)]
    }

    pub(super) fn distinct(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        let filter = self.filter();
        let key = if self.dice.chance(5) {
            "app_id"
        } else {
            values::field(&mut self.dice)
        };
        let is_ordered = !self.indexed[at] && self.is_ordered(at, &filter);
        let compare = if is_ordered {
            Compare::Exact
        } else {
            Compare::Set
        };
        vec![Step::new(
            doc! {"distinct": collection, "key": key, "query": filter},
            compare,
        )]
    }

    pub(super) fn update(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        let size = self.dice.weighted(&[(8, 1), (2, 2), (1, 5)]);
        let mut statements: Vec<Document> = (0..size).map(|_| self.statement(at)).collect();
        if size > 1 {
            // What no server knows refuses the whole command.
            for statement in &mut statements {
                statement.insert("q", doc! {"_id": values::id(&mut self.dice, self.owner)});
                statement.insert("u", doc! {"$set": {"a": values::scalar(&mut self.dice)}});
                statement.remove("arrayFilters");
            }
        }
        let mut command = doc! {"update": collection, "updates": statements};
        if self.dice.chance(20) {
            command.insert("ordered", self.dice.chance(50));
        }
        vec![Step::new(command, Compare::Exact)]
    }

    fn statement(&mut self, at: usize) -> Document {
        let Update {
            change,
            array_filters,
        } = updates::update(&mut self.dice, self.owner);
        let mut statement = doc! {"q": self.decided_filter(at), "u": change};
        if self.dice.chance(30) {
            statement.insert("multi", true);
        }
        // Ids that servers make are no app's to choose, and two apps' never meet.
        if self.dice.chance(25) {
            statement.insert("upsert", true);
        }
        if let Some(filters) = array_filters {
            statement.insert("arrayFilters", filters);
        }
        if self.dice.chance(5) {
            statement.insert("collation", values::collation(&mut self.dice));
        }
        statement
    }

    pub(super) fn delete(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        let limit = self.dice.weighted(&[(10, 1), (5, 0), (1, 5)]);
        let filter = match limit {
            0 => self.filter(),
            _ => self.decided_filter(at),
        };
        // All documents at once would make what follows dull.
        let limit = if filter.is_empty() && self.dice.chance(80) {
            1
        } else {
            limit
        };
        let mut deletes = vec![doc! {"q": filter, "limit": limit}];
        for _ in 0..self.dice.weighted(&[(8, 0), (2, 1), (1, 2)]) {
            let filter = values::id_filter(&mut self.dice, self.owner);
            deletes.push(doc! {"q": filter, "limit": 0});
        }
        let mut command = doc! {"delete": collection, "deletes": deletes};
        if self.dice.chance(30) {
            command.insert("ordered", self.dice.chance(50));
        }
        vec![Step::new(command, Compare::Exact)]
    }

    pub(super) fn find_and_modify(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        let mut command = doc! {"findAndModify": collection};
        if self.dice.chance(50) {
            command.insert("query", self.filter());
            command.insert("sort", values::total_sort(&mut self.dice));
        } else {
            command.insert("query", self.decided_filter(at));
        }
        if self.dice.chance(25) {
            command.insert("remove", true);
        } else {
            let Update {
                change,
                array_filters,
            } = updates::update(&mut self.dice, self.owner);
            command.insert("update", change);
            command.insert("new", self.dice.chance(60));
            command.insert("upsert", self.dice.chance(25));
            if let Some(filters) = array_filters {
                command.insert("arrayFilters", filters);
            }
        }
        if self.dice.chance(25) {
            command.insert("fields", pipelines::projection(&mut self.dice));
        }
        vec![Step::new(command, Compare::Exact)]
    }

    pub(super) fn aggregate(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        let (pipeline, compare) =
            pipelines::pipeline(&mut self.dice, self.owner, !self.indexed[at]);
        let mut command = doc! {"aggregate": collection, "pipeline": pipeline, "cursor": {}};
        if self.dice.chance(8) {
            command.insert("collation", values::collation(&mut self.dice));
        }
        vec![Step::new(command, compare)]
    }

    pub(super) fn create_index(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        self.indexed[at] = true;
        definitions::create(&mut self.dice, self.owner, collection)
    }

    fn drop_index(&mut self) -> Vec<Step> {
        let (_, collection) = self.collection();
        definitions::drop(&mut self.dice, collection)
    }

    fn catalog(&mut self) -> Vec<Step> {
        definitions::catalog(&mut self.dice)
    }

    fn drop(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        let all = self.dice.chance(20);
        let mut steps = match self.dice.between(1, 5) {
            _ if all => {
                self.indexed = Default::default();
                vec![Step::new(doc! {"dropDatabase": 1}, Compare::Exact)]
            }
            1 => vec![Step::new(doc! {"drop": "nowhere"}, Compare::Exact)],
            _ => {
                self.indexed[at] = false;
                vec![Step::new(doc! {"drop": collection}, Compare::Exact)]
            }
        };
        steps.push(Step::new(doc! {"find": collection}, Compare::Exact));
        steps.extend(
            (0..COLLECTIONS.len())
                .filter(|other| all || *other == at)
                .map(|at| self.seed_documents(at)),
        );
        steps
    }

    /// The number of the next transaction or retryable write.
    pub(super) fn transaction_number(&mut self) -> Bson {
        self.transactions += 1;
        Bson::Int64(self.transactions)
    }
}

fn is_operator(document: &Document) -> bool {
    document
        .keys()
        .next()
        .is_some_and(|key| key.starts_with('$'))
}
