//! What this project asks of its own files: a purpose in the first lines, a
//! bounded length, unsafe code only where `UNSAFE.md` says why, dependencies
//! that point one way, and nothing of the machine that it was written on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;

/// The folders of source files, beside the files at the top.
const FOLDERS: [&str; 8] =
    ["src", "core", "tracer", "asm", "python", "c-fixtures", "tests", "benches"];
/// Lines in a source file at most.
const MOST_LINES: usize = 400;
/// The packages, each of which may import those before it, with their manifests.
const LAYERS: [(&str, &str); 5] = [
    ("hotcall-core", "core/Cargo.toml"),
    ("hotcall-tracer", "tracer/Cargo.toml"),
    ("hotcall-asm", "asm/Cargo.toml"),
    ("hotcall", "Cargo.toml"),
    ("hotcall-python", "python/Cargo.toml"),
];
/// What one layer alone may depend on.
const OWNED: [(&str, &str); 4] = [
    ("iced-x86", "hotcall-asm"),
    ("memmap2", "hotcall-asm"),
    ("libffi", "hotcall-core"),
    ("pyo3", "hotcall-python"),
];

/// A text file, by its path from the root.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension().and_then(|e| e.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension))
    }

    /// The lines that are code, as far as a line tells.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter(|line| !line.trim_start().starts_with("//"))
    }
}

/// The files of the project, without what is generated.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> =
        FOLDERS.iter().flat_map(|folder| walk(&root.join(folder))).collect();
    let top = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    // `.git` is a file where the checkout is a work tree of another one.
    paths.extend(top.filter(|path| path.is_file() && !path.ends_with(".git")));
    paths.sort();
    let file = |path: PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        let path = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        Some(File { path, text })
    };
    let files: Vec<File> = paths.into_iter().filter_map(file).collect();
    assert!(files.len() > 60, "the files were found");
    files
}

/// The files below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let generated = ["target", "__pycache__", ".pytest_cache", ".venv", "record"];
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| !generated.iter().any(|name| path.ends_with(name)));
    kept.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Fails with all complaints at once.
#[track_caller]
fn check(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The complaints about lines, each with its place.
fn complain<'f>(
    files: &'f [File],
    about: impl Fn(&'f File, &'f str) -> Option<String>,
) -> Vec<String> {
    let lines = files.iter().flat_map(|file| (1..).zip(file.text.lines()).map(move |l| (file, l)));
    lines
        .filter_map(|(file, (number, line))| {
            about(file, line).map(|reason| format!("{}:{number}: {reason}", file.path))
        })
        .collect()
}

#[test]
fn every_source_says_what_it_is_for_and_is_short() {
    let mut complaints = Vec::new();
    for file in files().iter().filter(|file| file.is(&["rs", "py", "c", "h", "sh"])) {
        let first = file.text.lines().find(|line| !line.starts_with("#!/")).unwrap_or_default();
        let openings: &[&str] = match () {
            () if file.is(&["rs"]) => &["//! "],
            () if file.is(&["py"]) => &["\"\"\"", "r\"\"\""],
            () if file.is(&["sh"]) => &["# "],
            () => &["/* ", "// "],
        };
        if !openings.iter().any(|opening| first.starts_with(opening)) {
            complaints.push(format!("{}: does not open with what it is for", file.path));
        }
        let count = file.text.lines().count();
        if count > MOST_LINES {
            complaints.push(format!("{}: {count} lines; split it", file.path));
        }
    }
    check(complaints);
}

/// How often the code of a file has the word with one of these behind it.
fn count_unsafe(file: &File, followers: &[&str]) -> usize {
    let rests = file.code().flat_map(|line| line.split("unsafe ").skip(1));
    rests.filter(|rest| followers.iter().any(|follower| rest.starts_with(follower))).count()
}

/// `UPDATE_EXPECT=1` corrects the files and numbers of the table; the reasons
/// are written by hand.
#[test]
fn unsafe_code_is_where_the_table_says() {
    let files = files();
    let table = files.iter().find(|file| file.path == "UNSAFE.md").map_or("", |file| &file.text);
    let reasons: BTreeMap<&str, &str> = table
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
        .filter_map(|(path, rest)| Some((path, rest.split_once(" | ")?.1)))
        .collect();
    let head: Vec<&str> = table.lines().take_while(|line| !line.starts_with("| `")).collect();
    let mut want = head.join("\n") + "\n";
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is(&["rs"])) {
        if count_unsafe(file, &["{", "fn ", "impl"]) == 0 {
            continue;
        }
        let blocks = count_unsafe(file, &["{", "impl"]);
        let reason = reasons.get(file.path.as_str()).copied().unwrap_or_default();
        want += &format!("| `{}` | {blocks} | {reason} |\n", file.path);
        if reason.is_empty() {
            complaints.push(format!("UNSAFE.md: why has {} unsafe code?", file.path));
        }
    }
    expect_file!["../UNSAFE.md"].assert_eq(&want);
    check(complaints);
}

/// The names in a section of a manifest.
fn dependencies<'m>(manifest: &'m str, section: &str) -> Vec<&'m str> {
    let lines = manifest.lines().skip_while(|line| line.trim() != section).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty()))
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let files = files();
    let mut complaints = Vec::new();
    for (rank, (package, path)) in LAYERS.iter().enumerate() {
        let manifest = &files.iter().find(|file| file.path == *path).unwrap().text;
        let names = dependencies(manifest, "[dependencies]");
        assert!(!names.is_empty() || rank == 0, "{path} was read");
        for name in names {
            let above = LAYERS[rank..].iter().any(|(layer, _)| *layer == name);
            let owned = OWNED.iter().any(|(what, owner)| *what == name && owner != package);
            if above || owned {
                complaints.push(format!("{path}: {package} may not depend on {name}"));
            }
        }
    }
    check(complaints);
}

/// The lower layers know nothing of who uses them.
#[test]
fn nothing_below_knows_python() {
    let below = ["core/src/", "tracer/src/", "asm/src/"];
    let files: Vec<File> =
        files().into_iter().filter(|file| below.iter().any(|f| file.path.starts_with(f))).collect();
    check(complain(&files, |_, line| {
        line.to_lowercase().contains("python").then(|| "knows Python".to_string())
    }));
}

#[test]
fn nothing_is_unfinished_or_bound_to_a_machine() {
    // In pieces, since this file is checked too.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|pieces| pieces.concat());
    let places = ["root", "work", "home"].map(|folder| format!("/{folder}/"));
    let registries = ["crates.io", "pypi.org", "pythonhosted.org"];
    check(complain(&files(), |file, line| {
        let found = |what: &str| Some(format!("has `{what}`"));
        if let Some(mark) = marks.iter().find(|mark| line.contains(*mark)) {
            return found(mark);
        }
        // Part of a longer path, or of an address, it names no machine.
        let starts = |place: &&String| {
            line.match_indices(*place).any(|(at, _)| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}/*)".contains(c))
            })
        };
        if let Some(place) = places.iter().find(starts) {
            return found(place);
        }
        let registry = registries.iter().find(|host| file.is(&["md"]) && line.contains(*host));
        registry.and_then(|host| found(host))
    }));
}
