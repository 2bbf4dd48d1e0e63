//! Expressions: none runs code, or shows the server's own.

use mdb_wire::{Document, Element, Kind};

use super::filter::conditions;
use super::{Verdict, ensure, inside};

/// Variables that show the upstream user or belong to features that are refused.
const HIDDEN_VARIABLES: &[&[u8]] = &[b"USER_ROLES", b"SEARCH_META", b"JS_SCOPE", b"IS_MR"];

/// Every operator and variable below an element is one that reads its documents only.
pub(super) fn expressions(element: Option<&Element<'_>>, path: &str) -> Verdict {
    let Some(element) = element else {
        return Ok(());
    };
    if matches!(element.key, b"$literal" | b"$const") {
        return Ok(());
    }
    // Only in a projection, where it holds conditions: what a field is equal to there is a value.
    if element.key == b"$elemMatch" {
        return element
            .as_document()
            .map_or(Ok(()), |filter| conditions(filter, path));
    }
    let runs = matches!(element.key, b"$function" | b"$accumulator" | b"$where")
        || element.key.starts_with(b"$_");
    ensure(!runs, path, "an expression that is not for apps")?;
    if element.kind == Kind::String {
        let variable = element.as_string().and_then(|s| s.strip_prefix(b"$$"));
        let name = variable.and_then(|v| v.split(|&c| c == b'.').next());
        let shows = name.is_some_and(|name| HIDDEN_VARIABLES.contains(&name));
        return ensure(!shows, path, "a variable that is not for apps");
    }
    element
        .as_nested()
        .into_iter()
        .flat_map(Document::elements)
        .try_for_each(|e| expressions(Some(&e), &inside(path, e.key)))
}
