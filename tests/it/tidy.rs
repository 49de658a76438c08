//! The rules of the house that no compiler checks: who may import whom, how long a handler or a file may be. What a
//! single feature does is proven elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "nothing to look at in {folder}");
    found
}

/// The first folder or file stem under `src`: the layer that a file belongs to.
fn layer(path: &Path) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside = path.strip_prefix(root).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a file names at the root of this crate, by `crate::` or by the crate's own name.
fn named_layers(text: &str) -> Vec<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut named = Vec::new();
    for prefix in ["crate::", "campanile::"] {
        for (at, _) in code.match_indices(prefix) {
            let after = code.split_at(at + prefix.len()).1;
            let group = after.strip_prefix('{').map_or_else(
                || vec![after],
                |inside| {
                    inside
                        .split('}')
                        .next()
                        .unwrap_or_default()
                        .split(',')
                        .map(str::trim)
                        .collect()
                },
            );
            for path in group {
                named.push(path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
        }
    }
    named
}

#[test]
fn layers_import_downwards_only() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("model", &[][..]),
        ("pb", &[]),
        ("config", &["domain", "store", "api", "model"]),
        ("telemetry", &[]),
        ("store", &["model", "telemetry"]),
        ("channel", &["model"]),
        ("files", &["model"]),
        ("domain", &["store", "channel", "files", "model", "telemetry"]),
        ("api", &["domain", "model", "pb", "telemetry"]),
        ("worker", &["domain", "model", "telemetry"]),
    ]);
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let own = layer(&path);
        let Some(may) = allowed.get(own.as_str()) else { continue };
        for named in named_layers(&text) {
            if allowed.contains_key(named.as_str()) && named != own && !may.contains(&named.as_str()) {
                wrong.push(format!("{} imports {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_store_speaks_sql() {
    let speaks = |text: &str| text.contains("sea_orm") || text.contains("sqlx::");
    let wrong: Vec<_> = sources("src")
        .into_iter()
        .filter(|(path, text)| layer(path) != "store" && speaks(text))
        .collect();
    assert!(
        wrong.is_empty(),
        "{:#?}",
        wrong.iter().map(|(path, _)| path).collect::<Vec<_>>()
    );
}

#[test]
fn handlers_are_fifteen_lines_or_fewer() {
    const LINES_MAX: usize = 15;
    let mut long = Vec::new();
    for (path, text) in sources("src/api") {
        let Some(start) = text.find("Api for Api") else {
            continue;
        };
        let block = text.split_at(start).1.split("\n}\n").next().unwrap_or_default();
        for handler in block.split("\n    async fn ").skip(1) {
            let lines = handler.split("\n    }").next().unwrap_or_default().lines().count() + 1;
            if lines > LINES_MAX {
                let name = handler.split('(').next().unwrap_or_default();
                long.push(format!("{} {name}: {lines} lines", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn files_stay_short_enough_to_read() {
    const LINES_MAX: usize = 600;
    let long: Vec<_> = sources("src")
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "split by meaning: {long:#?}");
}

#[test]
fn failpoints_are_in_debug_builds_only() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/failpoint.rs");
    let text = fs::read_to_string(path).unwrap();
    // What a release build has: the names of the points, which its code passes, and a step that does nothing.
    let empty = "pub const fn hit(_: Point) {}";
    let everywhere = ["macro_rules! points {", "points! {", empty];
    let (mut wrong, mut before) = (Vec::new(), "");
    for line in text.lines() {
        let is_item = line.starts_with(|c: char| c.is_ascii_lowercase());
        if is_item && before != "#[cfg(debug_assertions)]" && !everywhere.contains(&line) {
            wrong.push(line);
        }
        before = line;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(text.contains(&format!("#[cfg(not(debug_assertions))]\n{empty}\n")));
    let words = text.split("#[cfg(debug_assertions)]\n        impl Point {").count();
    assert_eq!(words, 2, "the words of the points");
    // Whoever uses more of it than that does not compile for release, so nobody else need be looked at but for the
    // variables.
    let reads = |text: &str| text.contains("CAMPANILE_TEST_FAILPOINTS") || text.contains("CAMPANILE_TEST_BROKEN");
    let readers: Vec<_> = sources("src").into_iter().filter(|(_, text)| reads(text)).collect();
    assert!(readers.iter().all(|(path, _)| path.ends_with("src/failpoint.rs")));
}
