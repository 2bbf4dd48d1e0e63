//! Problems, each with its place, and the report that carries all of them.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is not loaded.
    Error,
    /// The file is loaded; something in it is not as its author may think.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong, or doubtful, in one place. Prints as `file:line: text`, or `file: text` without a line.
/// The text never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named by the caller, or joined to a directory that was.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: Option<usize>,
    /// Counted from 1, in characters.
    pub column: Option<usize>,
    /// Whether it stops the load.
    pub severity: Severity,
    /// One line, without the place.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {}", self.text)
    }
}

/// Everything found by a load that failed: at least one error, and the warnings beside it. Prints one problem per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The configuration's problems first, then those of each manifest by file name; within a file by line.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// A place in a file; line and column count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Collects the problems of one file. Shared by reference while the file is read.
#[derive(Debug)]
pub(crate) struct Sheet {
    file: PathBuf,
    problems: RefCell<Vec<Problem>>,
}

impl Sheet {
    pub(crate) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            problems: RefCell::new(Vec::new()),
        }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn error(&self, at: impl Into<Option<Position>>, text: impl Into<String>) {
        self.push(at.into(), Severity::Error, text.into());
    }

    pub(crate) fn warning(&self, at: impl Into<Option<Position>>, text: impl Into<String>) {
        self.push(at.into(), Severity::Warning, text.into());
    }

    pub(crate) fn has_errors(&self) -> bool {
        has_errors(&self.problems.borrow())
    }

    /// The problems by place; those of one place stay in the order in which they were found.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }

    fn push(&self, at: Option<Position>, severity: Severity, text: String) {
        let (line, column) = at.map_or((None, None), |at| (Some(at.line), Some(at.column)));
        self.problems.borrow_mut().push(Problem {
            file: self.file.clone(),
            line,
            column,
            severity,
            text,
        });
    }
}

pub(crate) fn has_errors(problems: &[Problem]) -> bool {
    problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
}
