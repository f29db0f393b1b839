//! `cargo rekernel new`: a project from the template of this repository.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::progress::status;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo rekernel new my-guest
  cargo rekernel new my-guest --path ~/projects
  cargo rekernel new my-guest --rekernel ../rekernel

Then, in the new folder: cargo rekernel run, cargo rekernel test.

The crates of rekernel are not published, so the project depends on a clone by its path: the one that
this command was built from, unless --rekernel names another.";

/// What to make, and where.
#[derive(Args, Clone, Debug)]
pub struct NewArguments {
    /// Name of the project: of its folder, its package and its guest
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The folder in which to make the project's folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub path: PathBuf,

    /// The clone of rekernel that the project shall use
    #[arg(long, value_name = "DIR")]
    pub rekernel: Option<PathBuf>,
}

/// Makes the project.
///
/// # Errors
/// Where the name cannot be a package's, the folder exists or cannot be written, or there is no clone
/// of rekernel. Nothing is left behind then.
pub fn command(arguments: &NewArguments) -> Result<()> {
    let name = &arguments.name;
    check_name(name)?;
    let clone = clone_of_rekernel(arguments.rekernel.as_deref())?;
    let folder = match arguments.path == Path::new(".") {
        true => PathBuf::from(name),
        false => arguments.path.join(name),
    };
    // With the versions that the clone is tested with. Cargo drops what the project does not use.
    let lock = fs::read_to_string(Path::new(&clone).join(LOCK)).ok();
    make(&folder, lock.as_deref(), |file| filled(file, name, &clone))?;
    status(
        "Created",
        &format!("guest `{name}` in {}", folder.display()),
    );
    status(
        "Next",
        &format!("cd {} && cargo rekernel run", folder.display()),
    );
    Ok(())
}

/// The template: where each file goes, and what it holds.
const TEMPLATE: [(&str, &str); 6] = [
    (
        ".cargo/config.toml",
        include_str!("../../../template/.cargo/config.toml"),
    ),
    (
        ".github/workflows/ci.yml",
        include_str!("../../../template/.github/workflows/ci.yml"),
    ),
    (".gitignore", include_str!("../../../template/.gitignore")),
    ("Cargo.toml", include_str!("../../../template/Cargo.toml")),
    (
        "rekernel.cfg",
        include_str!("../../../template/rekernel.cfg"),
    ),
    ("src/main.rs", include_str!("../../../template/src/main.rs")),
];

/// Where cargo keeps the versions of what a program depends on.
const LOCK: &str = "Cargo.lock";

/// The template's own name and the paths that lead from it to this repository.
const TEMPLATE_NAME: &str = "my-guest";
const TEMPLATE_PATHS: [(&str, &str); 3] = [
    ("path = \"../runtime\"", "path = \"{clone}/runtime\""),
    ("\"../cli/Cargo.toml\"", "\"{clone}/cli/Cargo.toml\""),
    ("REKERNEL: \"..\"", "REKERNEL: \"{clone}\""),
];

/// A file of the template for a project of this name. `clone` is a path without quotes and
/// backslashes, so that it stays one string in all of them.
fn filled(text: &str, name: &str, clone: &str) -> String {
    let mut text = text.replace(TEMPLATE_NAME, name);
    for (from, to) in TEMPLATE_PATHS {
        text = text.replace(from, &to.replace("{clone}", clone));
    }
    text
}

/// The absolute path of the clone.
fn clone_of_rekernel(asked: Option<&Path>) -> Result<String> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let clone = asked.unwrap_or(built_from.parent().unwrap_or(built_from));
    let what = match asked {
        Some(_) => "given by --rekernel",
        None => "which this command was built from",
    };
    ensure!(
        clone.join("runtime/Cargo.toml").is_file(),
        "there is no clone of rekernel at {}, {what}: name one with --rekernel DIR",
        clone.display()
    );
    let clone = clone
        .canonicalize()
        .with_context(|| format!("{} cannot be reached", clone.display()))?;
    match clone.to_str() {
        Some(text) if !text.contains(['"', '\\']) && !text.contains(char::is_control) => {
            Ok(text.to_owned())
        }
        _ => bail!(
            "{} cannot be written into a Cargo.toml: move the clone to a path without quotes and backslashes",
            clone.display()
        ),
    }
}

/// Makes `folder` with all files of the template, each passed through `fill`, and with `lock`; or nothing.
fn make(folder: &Path, lock: Option<&str>, fill: impl Fn(&str) -> String) -> Result<()> {
    let exists = || format!("{} exists: choose another name or --path", folder.display());
    // Also what a symbolic link to nowhere leaves no room for.
    ensure!(fs::symlink_metadata(folder).is_err(), "{}", exists());
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    ensure!(
        parent.is_dir(),
        "there is no folder {}: make it first, or choose another --path",
        parent.display()
    );
    // Written aside and renamed: whoever sees the folder sees all of it.
    let aside = Aside::make(parent)?;
    let filled = TEMPLATE.map(|(file, text)| (file, fill(text)));
    let lock = lock.map(|text| (LOCK, text.to_owned()));
    for (file, text) in filled.into_iter().chain(lock) {
        let path = aside.0.join(file);
        let inner = path.parent().unwrap_or(&aside.0);
        fs::create_dir_all(inner)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("{file} cannot be written in {}", parent.display()))?;
    }
    match fs::rename(&aside.0, folder) {
        // An empty folder that came to be meanwhile is replaced, which loses nothing.
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory
            ) =>
        {
            bail!("{}", exists())
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be made", folder.display())),
    }
}

/// A folder beside the one to make. What is still there at the end is removed.
struct Aside(PathBuf);

impl Aside {
    fn make(parent: &Path) -> Result<Self> {
        let path = parent.join(format!(".rekernel-new-{}", std::process::id()));
        fs::create_dir(&path)
            .with_context(|| format!("nothing can be made in {}", parent.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // After the renaming there is none.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Checks that a package, and with it a crate, can have this name.
fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        "it does not begin with a letter"
    } else if !name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    {
        "it has characters besides ASCII letters, digits, `-` and `_`"
    } else if name.len() > LONGEST_NAME {
        "it is longer than 64 characters"
    } else if KEYWORDS.contains(&name.replace('-', "_").as_str()) {
        "it is a word of the language Rust"
    } else if TAKEN.contains(&name.replace('-', "_").as_str()) {
        "a crate that every guest is made of has this name"
    } else {
        return Ok(());
    };
    bail!("`{name}` cannot be the name of a guest: {reason}; choose one such as `my-guest`")
}

/// Names of packages, of files made from them, and of domains on Xen stay far below their limits.
const LONGEST_NAME: usize = 64;

/// Strict and reserved keywords of all editions (The Rust Reference, "Keywords"), and `_`.
const KEYWORDS: [&str; 53] = [
    "_", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "Self", "static", "struct", "super", "trait", "true", "try", "type",
    "typeof", "union", "unsafe", "unsized", "use", "virtual", "where", "while",
];

/// Crates of Rust's own and those the template depends on.
const TAKEN: [&str; 8] = [
    "alloc",
    "core",
    "embedded_io_async",
    "log",
    "proc_macro",
    "rekernel",
    "std",
    "test",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A folder that is removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rekernel-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn entries(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn files_below(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true if name == "target" => {}
                true => files_below(&entry.path(), &format!("{name}/"), found),
                false => drop(found.insert(name)),
            }
        }
    }

    #[test]
    fn all_of_the_template_is_made_and_nothing_of_it_is_left_unfilled() {
        let scratch = Scratch::new("new-all");
        let folder = scratch.0.join("dns");
        let fill = |text: &str| filled(text, "dns", "/home/a b/rekernel");
        make(&folder, Some("# the clone's"), fill).unwrap();
        assert_eq!(scratch.entries(), ["dns"]);
        let (mut made, mut there) = (BTreeSet::new(), BTreeSet::new());
        files_below(&folder, "", &mut made);
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template");
        files_below(&template, "", &mut there);
        there.insert(LOCK.to_owned());
        assert_eq!(made, there);
        let lock = fs::read_to_string(folder.join(LOCK)).unwrap();
        assert_eq!(lock, "# the clone's");
        let mut paths = 0;
        for file in &made {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            assert!(
                !text.contains(TEMPLATE_NAME) && !text.contains("\".."),
                "{file}: {text}"
            );
            paths += text.matches("\"/home/a b/rekernel").count();
        }
        assert_eq!(paths, TEMPLATE_PATHS.len());
    }

    #[test]
    fn names_that_cannot_be_crates_are_refused_with_the_reason() {
        for (name, reason) in [
            ("", "empty"),
            ("7up", "begin with a letter"),
            ("-x", "begin with a letter"),
            ("a.b", "ASCII letters"),
            ("../x", "begin with a letter"),
            ("a/b", "ASCII letters"),
            ("gr\u{fc}n", "ASCII letters"),
            ("async", "language Rust"),
            ("gen", "language Rust"),
            ("Self", "language Rust"),
            ("test", "every guest"),
            ("rekernel", "every guest"),
            ("embedded-io-async", "every guest"),
            ("x".repeat(65).as_str(), "longer"),
        ] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(
                error.contains(reason) && error.contains(&format!("`{name}`")),
                "{error}"
            );
        }
        for name in ["dns", "my-guest", "_x", "Web2", "x".repeat(64).as_str()] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn what_exists_is_left_alone() {
        let scratch = Scratch::new("new-exists");
        fs::write(scratch.0.join("a-file"), "kept").unwrap();
        fs::create_dir(scratch.0.join("a-folder")).unwrap();
        std::os::unix::fs::symlink("nowhere", scratch.0.join("a-link")).unwrap();
        let before = scratch.entries();
        for name in ["a-file", "a-folder", "a-link"] {
            let error = make(&scratch.0.join(name), None, str::to_owned)
                .unwrap_err()
                .to_string();
            assert!(error.contains("exists") && error.contains(name), "{error}");
        }
        assert_eq!(scratch.entries(), before);
        let missing = scratch.0.join("no/such");
        let error = make(&missing, None, str::to_owned).unwrap_err().to_string();
        assert!(error.contains("there is no folder"), "{error}");
    }

    #[test]
    fn a_failure_half_way_leaves_nothing() {
        let scratch = Scratch::new("new-half");
        let aside = Aside::make(&scratch.0).unwrap();
        fs::write(aside.0.join("file"), "half").unwrap();
        drop(aside);
        assert!(scratch.entries().is_empty());
    }

    #[test]
    fn a_clone_that_is_none_is_named() {
        let error = clone_of_rekernel(Some(Path::new("/nonexistent")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/nonexistent") && error.contains("--rekernel DIR"),
            "{error}"
        );
        assert!(clone_of_rekernel(None).unwrap().starts_with('/'));
    }
}
