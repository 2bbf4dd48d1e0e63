//! Where each node of a YAML document stands, and the limits a document must keep.
//!
//! The reader proper gives values without places. This pass gives places without values; `yaml` joins the two. It runs
//! first, so that a document beyond the limits never reaches the reader.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, Span};

use crate::report::{Position, Sheet};

/// Nodes of one document with every alias written out. A large manifest has some thousands.
pub(crate) const NODES_MAX: usize = 100_000;

/// Nesting of one document. The deepest key of a manifest, inside a partial filter expression, needs about ten.
pub(crate) const DEPTH_MAX: usize = 32;

/// The place of one node and of those inside it.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) at: Position,
    pub(crate) inside: Inside,
    /// This node and all inside it, aliases written out.
    nodes: usize,
    /// 1 for a scalar.
    depth: usize,
}

/// What a node is made of.
#[derive(Debug, Clone)]
pub(crate) enum Inside {
    /// One value; its text is kept for comparing keys.
    Scalar(Rc<str>),
    /// In order.
    List(Vec<Rc<Mark>>),
    /// Keys with their values, in order.
    Mapping(Vec<(Rc<Mark>, Rc<Mark>)>),
}

/// The places of the one document in `text`. `None` when something is wrong; then the sheet says what.
/// An empty text has a place too: its first line.
pub(crate) fn of(text: &str, sheet: &Sheet) -> Option<Rc<Mark>> {
    let mut builder = Builder::new(sheet);
    let mut parser = Parser::new_from_str(text);
    // One event at a time: the crate's own `load` recurses as deep as the document does.
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.take(&event, span)?,
            Err(error) => {
                sheet.error(
                    position(*error.marker()),
                    format!("not YAML: {}", error.info()),
                );
                return None;
            }
        }
    }
    let empty = || Rc::new(Mark::scalar(START, ""));
    if builder.is_sound {
        Some(builder.root.unwrap_or_else(empty))
    } else {
        None
    }
}

impl Mark {
    fn scalar(at: Position, text: &str) -> Self {
        Self {
            at,
            inside: Inside::Scalar(text.into()),
            nodes: 1,
            depth: 1,
        }
    }

    fn of_open(open: Open) -> Self {
        let children = || open.children.iter();
        let nodes = children()
            .map(|child| child.nodes)
            .sum::<usize>()
            .saturating_add(1);
        let depth = children().map(|child| child.depth).max().unwrap_or(0) + 1;
        let inside = if open.is_mapping {
            let mut pairs = Vec::with_capacity(open.children.len() / 2);
            let mut children = open.children.into_iter();
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                pairs.push((key, value));
            }
            Inside::Mapping(pairs)
        } else {
            Inside::List(open.children)
        };
        Self {
            at: open.at,
            inside,
            nodes,
            depth,
        }
    }
}

/// A list or mapping whose end has not come yet.
struct Open {
    at: Position,
    is_mapping: bool,
    /// Keys and values by turns in a mapping.
    children: Vec<Rc<Mark>>,
    anchor: usize,
}

struct Builder<'s> {
    sheet: &'s Sheet,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Mark>>,
    root: Option<Rc<Mark>>,
    documents: usize,
    nodes: usize,
    /// False after a problem that does not stop the walk.
    is_sound: bool,
}

impl<'s> Builder<'s> {
    fn new(sheet: &'s Sheet) -> Self {
        Self {
            sheet,
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
            nodes: 0,
            is_sound: true,
        }
    }

    /// `None` when the walk must stop.
    fn take(&mut self, event: &Event<'_>, span: Span) -> Option<()> {
        let at = position(span.start);
        match event {
            Event::DocumentStart(_) => self.start_document(at),
            Event::Scalar(text, _, anchor, _) => self.add(Mark::scalar(at, text), *anchor),
            Event::Alias(anchor) => self.add_alias(*anchor, at),
            Event::SequenceStart(anchor, _) => self.open(at, false, *anchor),
            Event::MappingStart(anchor, _) => self.open(at, true, *anchor),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Some(()),
        }
    }

    fn start_document(&mut self, at: Position) -> Option<()> {
        self.documents += 1;
        if self.documents > 1 {
            self.sheet.error(
                at,
                "a second document begins here; write one document per file",
            );
            return None;
        }
        Some(())
    }

    fn open(&mut self, at: Position, is_mapping: bool, anchor: usize) -> Option<()> {
        self.check_depth(1, at)?;
        self.open.push(Open {
            at,
            is_mapping,
            children: Vec::new(),
            anchor,
        });
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let open = self.open.pop()?;
        let anchor = open.anchor;
        let mark = Mark::of_open(open);
        self.check_keys(&mark);
        // Those inside have been counted when they came.
        self.count(1, mark.at)?;
        self.place(mark, anchor);
        Some(())
    }

    fn add(&mut self, mark: Mark, anchor: usize) -> Option<()> {
        self.check_depth(mark.depth, mark.at)?;
        self.count(mark.nodes, mark.at)?;
        self.place(mark, anchor);
        Some(())
    }

    fn add_alias(&mut self, anchor: usize, at: Position) -> Option<()> {
        let Some(named) = self.anchors.get(&anchor).cloned() else {
            self.sheet
                .error(at, "an alias may not stand inside what it names");
            return None;
        };
        // Counted before it is copied, so that aliases of aliases cannot grow beyond the limit.
        self.check_depth(named.depth, at)?;
        self.count(named.nodes, at)?;
        self.place(
            Mark {
                at,
                ..named.as_ref().clone()
            },
            NO_ANCHOR,
        );
        Some(())
    }

    fn place(&mut self, mark: Mark, anchor: usize) {
        let mark = Rc::new(mark);
        if anchor != NO_ANCHOR {
            self.anchors.insert(anchor, Rc::clone(&mark));
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(mark),
            None => self.root = Some(mark),
        }
    }

    fn check_depth(&self, depth: usize, at: Position) -> Option<()> {
        if self.open.len() + depth > DEPTH_MAX {
            self.sheet
                .error(at, format!("nested deeper than {DEPTH_MAX} levels"));
            return None;
        }
        Some(())
    }

    fn count(&mut self, nodes: usize, at: Position) -> Option<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            self.sheet.error(
                at,
                format!("more than {NODES_MAX} values, aliases written out"),
            );
            return None;
        }
        Some(())
    }

    /// A key that stands twice: readers disagree about which one holds, so neither does.
    fn check_keys(&mut self, mark: &Mark) {
        let Inside::Mapping(pairs) = &mark.inside else {
            return;
        };
        let mut seen = HashSet::new();
        for (key, _) in pairs {
            let Inside::Scalar(text) = &key.inside else {
                continue;
            };
            if !seen.insert(Rc::clone(text)) {
                self.sheet.error(
                    key.at,
                    format!("the key {} stands twice", crate::reader::quoted(text)),
                );
                self.is_sound = false;
            }
        }
    }
}

fn position(marker: saphyr_parser::Marker) -> Position {
    Position {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

/// The number the parser gives to a node without an anchor.
const NO_ANCHOR: usize = 0;

const START: Position = Position { line: 1, column: 1 };
