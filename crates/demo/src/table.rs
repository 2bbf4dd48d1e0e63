//! What is stored upstream beside what each app sees.

use bson::{Bson, Document};

use crate::stage::Stage;
use crate::walk::{Views, all};

/// A line for each document upstream, with a column for each app. A document that an app does not see is a dash in its
/// column; one that an app sees and that is not upstream, which cannot be, stands at the end.
pub async fn sight(stage: &Stage) -> anyhow::Result<String> {
    let views = Views::of(stage).await?;
    let upstream = all(&views.upstream).await?;
    let (shop, notes) = (all(&views.shop).await?, all(&views.notes).await?);
    Ok(layout(&upstream, &shop, &notes))
}

fn layout(upstream: &[Document], shop: &[Document], notes: &[Document]) -> String {
    let mut rows = vec![["stored upstream", "seen by shop", "seen by notes"].map(str::to_owned)];
    for document in upstream {
        rows.push([shown(document), seen(shop, document), seen(notes, document)]);
    }
    let is_stray = |seen: &&Document| !upstream.iter().any(|stored| is_same(stored, seen));
    for stray in shop.iter().filter(is_stray) {
        rows.push([dash(), shown(stray), dash()]);
    }
    for stray in notes.iter().filter(is_stray) {
        rows.push([dash(), dash(), shown(stray)]);
    }
    lines(&rows)
}

fn lines(rows: &[[String; 3]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    let line = |[a, b, c]: &[String; 3]| {
        let [wide, middle, _] = widths;
        let line = format!("  {a:wide$}   {b:middle$}   {c}");
        format!("{}\n", line.trim_end())
    };
    let rule = widths.map(|width| "─".repeat(width));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text.push_str(&line(row));
        if index == 0 {
            text.push_str(&line(&rule));
        }
    }
    text
}

fn seen(sight: &[Document], stored: &Document) -> String {
    sight
        .iter()
        .find(|seen| is_same(stored, seen))
        .map_or_else(dash, shown)
}

fn is_same(one: &Document, other: &Document) -> bool {
    one.get("_id") == other.get("_id")
}

/// Close to the shell's form, but without what only makes it wide.
fn shown(document: &Document) -> String {
    let field = |(key, value): (&String, &Bson)| match value {
        Bson::String(text) => format!("{key}={text}"),
        other => format!("{key}={other}"),
    };
    document.iter().map(field).collect::<Vec<_>>().join(" ")
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_line_for_each_stored_document_and_each_stray_one() {
        let upstream = [
            doc! { "_id": 1, "app_id": "shop", "a": "x" },
            doc! { "_id": 2, "app_id": "notes" },
        ];
        let shop = [doc! { "_id": 1, "a": "x" }, doc! { "_id": 3 }];
        let notes = [doc! { "_id": 2 }];
        let expected = "  \
  stored upstream         seen by shop   seen by notes
  ─────────────────────   ────────────   ─────────────
  _id=1 app_id=shop a=x   _id=1 a=x      -
  _id=2 app_id=notes      -              _id=2
  -                       _id=3          -
";
        assert_eq!(layout(&upstream, &shop, &notes), expected);
    }
}
