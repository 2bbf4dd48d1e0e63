use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::positions::{DEPTH_MAX, NODES_MAX};
use crate::secret::Secrets;

fn parsed(text: &str) -> Result<Node, Vec<String>> {
    let sheet = Sheet::new(Path::new("f"));
    let node = parse(text.as_bytes(), &sheet);
    let has_errors = sheet.has_errors();
    let problems: Vec<_> = sheet
        .into_problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(node.is_none() || has_errors, !problems.is_empty());
    node.filter(|_| !has_errors).ok_or(problems)
}

/// Each key with the places of itself and its value, in the order of the file.
fn places(node: &Node, found: &mut Vec<String>) {
    match &node.kind {
        Kind::Mapping(entries) => {
            for entry in entries {
                let (key_at, at) = (entry.key_at, entry.value.at);
                found.push(format!(
                    "{} {}:{} {}:{}",
                    entry.key, key_at.line, key_at.column, at.line, at.column
                ));
                places(&entry.value, found);
            }
        }
        Kind::List(items) => items.iter().for_each(|item| places(item, found)),
        _ => {}
    }
}

#[test]
fn places_of_block_and_flow_nodes() {
    let text = "# first\na: 1\nb:\n  - c: x\n    d: |\n      text\n  - { e: [1,\n    2], f: g }\nh: &n { i: j }\nk: *n\n";
    let mut found = Vec::new();
    places(&parsed(text).unwrap(), &mut found);
    let expected = [
        "a 2:1 2:4",
        "b 3:1 4:3",
        "c 4:5 4:8",
        "d 5:5 6:7",
        "e 7:7 7:10",
        "f 8:9 8:12",
        "h 9:1 9:4",
        "i 9:9 9:12",
        "k 10:1 10:4",
        "i 9:9 9:12",
    ];
    assert_eq!(found, expected);
}

#[test]
fn json_with_tabs_and_escapes_is_yaml() {
    let node = parsed("{\n\t\"a\": \"b\\/\\u00e4\",\n\t\"c\": [true, null, -1, 1.5]\n}\n").unwrap();
    let Kind::Mapping(entries) = &node.kind else {
        panic!("{node:?}")
    };
    assert_eq!(entries[0].value.kind, Kind::Text("b/ä".to_owned()));
    let Kind::List(items) = &entries[1].value.kind else {
        panic!("{node:?}")
    };
    let kinds: Vec<_> = items.iter().map(|item| item.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            Kind::Boolean(true),
            Kind::Null,
            Kind::Integer(-1),
            Kind::Float(1.5)
        ]
    );
}

#[test]
fn an_empty_text_is_nothing() {
    for text in ["", "\n\n", "# only a comment\n", "\u{feff}", "---\n"] {
        assert_eq!(parsed(text).unwrap().kind, Kind::Null, "{text:?}");
    }
}

#[test]
fn limits_hold_at_their_edge() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parsed(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(
        parsed(&nested(DEPTH_MAX + 1)),
        Err(vec!["f:1: nested deeper than 32 levels".to_owned()])
    );

    let wide = |nodes: usize| format!("[{}]", "1,".repeat(nodes - 1));
    assert!(parsed(&wide(NODES_MAX)).is_ok());
    let problems = parsed(&wide(NODES_MAX + 1)).unwrap_err();
    assert!(
        problems[0].ends_with("more than 100000 values, aliases written out"),
        "{problems:?}"
    );

    let bytes_max = usize::try_from(FILE_BYTES_MAX).unwrap();
    assert!(parsed(&"#".repeat(bytes_max)).is_ok());
    assert_eq!(
        parsed(&"#".repeat(bytes_max + 1)),
        Err(vec!["f: is larger than 1048576 bytes".to_owned()])
    );
}

#[test]
fn aliases_cannot_explode_or_eat_themselves() {
    let level = |level: usize| {
        let names = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("a{level}: &a{level} [{names}]\n")
    };
    let first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    let bomb: String = std::iter::once(first).chain((1..12).map(level)).collect();
    let problems = parsed(&bomb).unwrap_err();
    assert!(problems[0].starts_with("f:5:"), "{problems:?}");

    assert_eq!(
        parsed("a: &a [*a]"),
        Err(vec![
            "f:1: an alias may not stand inside what it names".to_owned()
        ])
    );
}

#[test]
fn bytes_that_are_not_utf_8_are_located() {
    let sheet = Sheet::new(Path::new("f"));
    assert_eq!(
        parse(
            "version: 1\nä: \u{fc}"
                .as_bytes()
                .split_last()
                .expect("not empty")
                .1,
            &sheet
        ),
        None
    );
    let problems = sheet.into_problems();
    assert_eq!((problems[0].line, problems[0].column), (Some(2), Some(4)));
    assert_eq!(problems[0].to_string(), "f:2: not UTF-8");
}

/// Words and punctuation of YAML in any order come nearer to the readers' edges than bytes do.
fn soup() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "version",
        "slug",
        "credentials",
        "upstream",
        "uri",
        "env",
        "managed_indexes",
        "keys",
        "status",
        "\"3.0\"",
        "1",
        "-1",
        "5s",
        "off",
        "true",
        "null",
        "~",
        ": ",
        ":",
        "- ",
        "-",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "&a ",
        "*a",
        "!t ",
        "!!str ",
        "|",
        ">",
        "'",
        "\"",
        "#",
        "---",
        "...",
        "? ",
        "<<",
        "%",
        "\t",
        "\u{85}",
        "ä",
        "\0",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.concat())
}

fn read_everything(bytes: &[u8]) {
    let sheet = Sheet::new(Path::new("f"));
    let Some(root) = parse(bytes, &sheet) else {
        assert!(sheet.has_errors());
        return;
    };
    let secrets = Secrets {
        directory: Path::new("no such directory"),
        environment: &|_| None,
        files: &std::cell::RefCell::default(),
    };
    crate::config::read(&root, &sheet, &secrets);
    crate::app::read(&root, &sheet, &secrets);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_everything(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        read_everything(text.as_bytes());
    }

    #[test]
    fn arbitrary_yaml_never_panics(text in soup()) {
        read_everything(text.as_bytes());
    }
}
