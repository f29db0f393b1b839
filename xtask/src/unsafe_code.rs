//! Whether `unsafe` is where `docs/unsafe.md` says, and nowhere else.
//!
//! The compiler keeps the wall inside a crate (`forbid`, or `deny` with a named exception for each
//! module); this keeps the crates at it and the list beside it true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use proc_macro2::{TokenStream, TokenTree};

/// The list: tables whose first column holds paths from the workspace's root, in backticks.
const LIST: &str = "docs/unsafe.md";
/// Where unsafe code may be at all.
const HOMES: [&str; 6] = [
    "pvh-boot/benches/",
    "pvh-boot/src/",
    "xen/src/",
    "runtime/",
    "bench/client/src/",
    "tests/failing-memory/src/",
];
/// Guests that do what a program must not, for tests. They are not listed.
const EXEMPT: &str = "tests/guests/";
/// Words that make a file unsafe: the compiler's lint counts the second, too.
const WORDS: [&str; 2] = ["unsafe", "global_asm"];

/// Checks the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut tree = Tree::default();
    tree.collect(root, "")?;
    let text = read(root, LIST)?;
    let listed: BTreeSet<_> = listed_files(&text).map(str::to_owned).collect();
    let mut found = BTreeSet::new();
    for file in &tree.sources {
        if is_unsafe(&read(root, file)?).with_context(|| format!("{file} is not Rust"))? {
            found.insert(file.clone());
        }
    }
    let mut complaints = compare(&listed, &found);
    for (package, file) in tree.crate_roots() {
        let has_unsafe = found.iter().any(|file| tree.package_of(file) == package);
        complaints.extend(missing_attribute(file, &read(root, file)?, has_unsafe));
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("; "));
    Ok(())
}

fn read(root: &Path, file: &str) -> Result<String> {
    fs::read_to_string(root.join(file)).with_context(|| format!("{file} cannot be read"))
}

/// Paths from the workspace's root, with `/` between and after folders.
#[derive(Default)]
struct Tree {
    /// Rust files.
    sources: BTreeSet<String>,
    /// Folders of packages.
    packages: BTreeSet<String>,
}

impl Tree {
    /// Adds what is in `folder`, but for build output and hidden folders.
    fn collect(&mut self, root: &Path, folder: &str) -> Result<()> {
        let entries = fs::read_dir(root.join(folder))
            .with_context(|| format!("{folder} cannot be listed"))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name
                .to_str()
                .ok_or_else(|| anyhow!("{name:?} in {folder} is not UTF-8"))?;
            let path = format!("{folder}{name}");
            if entry.file_type()?.is_dir() {
                let inner = format!("{path}/");
                if name != "target" && !name.starts_with('.') && inner != EXEMPT {
                    self.collect(root, &inner)?;
                }
            } else if name == "Cargo.toml" {
                self.packages.insert(folder.to_owned());
            } else if name.ends_with(".rs") {
                self.sources.insert(path);
            }
        }
        Ok(())
    }

    /// The innermost package that a file is in.
    fn package_of(&self, file: &str) -> &str {
        let around = self
            .packages
            .iter()
            .filter(|folder| file.starts_with(*folder));
        around
            .max_by_key(|folder| folder.len())
            .map_or("", String::as_str)
    }

    /// Libraries and programs, where attributes of a whole crate stand, each with its package.
    fn crate_roots(&self) -> impl Iterator<Item = (&str, &str)> {
        let roots = ["src/lib.rs", "src/main.rs"];
        self.sources.iter().filter_map(move |file| {
            let package = self.package_of(file);
            let inside = file.strip_prefix(package)?;
            roots.contains(&inside).then_some((package, file.as_str()))
        })
    }
}

/// The files that the first columns of the tables name.
fn listed_files(text: &str) -> impl Iterator<Item = &str> {
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    quoted.filter(|name| name.ends_with(".rs"))
}

/// Whether Rust code, comments and texts aside, says one of [`WORDS`].
fn is_unsafe(code: &str) -> Result<bool> {
    let tokens: TokenStream = code.parse().map_err(|error| anyhow!("{error}"))?;
    Ok(says_so(tokens))
}

fn says_so(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => says_so(group.stream()),
        TokenTree::Ident(name) => WORDS.iter().any(|word| name == word),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

fn compare(listed: &BTreeSet<String>, found: &BTreeSet<String>) -> Vec<String> {
    let unlisted = found.difference(listed);
    let stale = listed.difference(found);
    let misplaced = found
        .iter()
        .filter(|file| !HOMES.iter().any(|home| file.starts_with(home)));
    unlisted
        .map(|file| format!("{file} has unsafe code and is not in {LIST}"))
        .chain(stale.map(|file| format!("{LIST} names {file}, which has no unsafe code")))
        .chain(misplaced.map(|file| format!("unsafe code has no place in {file}")))
        .collect()
}

/// What is wrong with the crate whose root is `file`, if anything is.
fn missing_attribute(file: &str, code: &str, has_unsafe: bool) -> Option<String> {
    let wanted = if has_unsafe {
        "#![deny(unsafe_code)]"
    } else {
        "#![forbid(unsafe_code)]"
    };
    let has_it = code.lines().any(|line| line == wanted);
    (!has_it).then(|| format!("{file} lacks {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn words_count_in_code_only() {
        let harmless =
            "//! unsafe\n#![deny(unsafe_code)]\nconst TEXT: &str = \"unsafe\"; /* unsafe */";
        assert!(!is_unsafe(harmless).unwrap());
        for code in [
            "fn f() { g({ unsafe { h() } }) }",
            "#[unsafe(no_mangle)] fn f() {}",
            "unsafe impl Sync for X {}",
            "global_asm!(\"ret\");",
        ] {
            assert!(is_unsafe(code).unwrap(), "{code}");
        }
        assert!(is_unsafe("fn (").is_err());
    }

    #[test]
    fn first_columns_name_files() {
        let text =
            "`x.rs`\n\n| file | why |\n|---|---|\n| `a/b.rs`, `c.rs` | not `d.rs` |\n| `e.s` | |\n";
        assert_eq!(listed_files(text).collect::<Vec<_>>(), ["a/b.rs", "c.rs"]);
    }

    #[test]
    fn list_and_code_are_held_against_each_other() {
        let both = names(&["xen/src/a.rs"]);
        assert!(compare(&both, &both).is_empty());
        assert_eq!(compare(&both, &names(&[])).len(), 1);
        assert_eq!(compare(&names(&[]), &both).len(), 1);
        let misplaced = names(&["lab/src/a.rs"]);
        let complaints = compare(&misplaced, &misplaced);
        assert_eq!(complaints, ["unsafe code has no place in lab/src/a.rs"]);
    }

    #[test]
    fn a_file_belongs_to_the_innermost_package() {
        let tree = Tree {
            sources: names(&[
                "xen/src/lib.rs",
                "xen/proto/src/lib.rs",
                "xen/src/a/main.rs",
            ]),
            packages: names(&["", "xen/", "xen/proto/"]),
        };
        let roots: Vec<_> = tree.crate_roots().collect();
        let expected = [
            ("xen/proto/", "xen/proto/src/lib.rs"),
            ("xen/", "xen/src/lib.rs"),
        ];
        assert_eq!(roots, expected);
        assert_eq!(tree.package_of("xen/src/a/main.rs"), "xen/");
    }

    #[test]
    fn a_crate_without_unsafe_code_forbids_it() {
        let forbids = "//! Text.\n#![forbid(unsafe_code)]\n";
        assert_eq!(missing_attribute("a.rs", forbids, false), None);
        assert!(missing_attribute("a.rs", "// #![forbid(unsafe_code)]\n", false).is_some());
        assert_eq!(
            missing_attribute("a.rs", forbids, true).as_deref(),
            Some("a.rs lacks #![deny(unsafe_code)]")
        );
    }
}
