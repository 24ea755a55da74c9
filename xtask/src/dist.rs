//! Makes the archive that people download: the program, the example plugins, configuration, completions, licence and
//! checksums. Tries it from an empty folder before it says that it is there.

mod again;
pub mod api;
mod build;
mod smoke;
mod traces;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cargo;
use build::{BASELINE, Built, Manner};

/// What stands in the archive beside what is built: file of the project, file in the archive.
const FILES: [(&str, &str); 6] = [
    ("runner/LICENSE", "LICENSE"),
    ("conf/config.yaml", "conf/config.yaml"),
    ("conf/demo.yaml", "conf/demo.yaml"),
    ("runner/OPERATIONS.md", "docs/OPERATIONS.md"),
    ("runner/MESSAGES.md", "docs/MESSAGES.md"),
    ("xtask/src/dist/README.md", "README.md"),
];
const SHELLS: [(&str, &str); 3] = [
    ("bash", "plugin-runner.bash"),
    ("zsh", "_plugin-runner"),
    ("fish", "plugin-runner.fish"),
];

/// Runs the task.
///
/// # Errors
/// An argument is unknown, something does not build, or the archive does not work from an empty folder.
pub fn run(arguments: Vec<String>) -> Result<()> {
    let Order { manner, twice } = order(arguments)?;
    let built = build::all(&manner)?;
    let folder = cargo::target_folder()?.join("dist");
    let suffix = match manner {
        Manner::Debug => "-debug",
        Manner::Here | Manner::Baseline => "",
    };
    let name = format!("plugin-runner-{}-{}{suffix}", built.version, built.target);
    let staged = stage(&built, manner, &folder, &name)?;
    let programs = programs(&staged)?;
    let needed = newest_glibc(&programs)?;
    if manner != Manner::Debug {
        traces::none_in(&programs)?;
    }
    if manner == Manner::Baseline {
        keep_to_the_baseline(needed)?;
    }
    let archive = pack(&folder, &name)?;
    let glibc = needed.map(|(major, minor)| format!("{major}.{minor}"));
    smoke::run(&archive, &name, glibc.as_deref(), manner)?;
    if twice {
        again::compare(&archive, manner.arguments(), &time_of_the_commit())?;
    }
    tell(&archive, &staged, &programs, glibc.as_deref())
}

/// What came out: sizes, and what it needs.
fn tell(archive: &Path, staged: &Path, programs: &[PathBuf], glibc: Option<&str>) -> Result<()> {
    println!();
    for file in programs {
        let name = file.strip_prefix(staged)?.display();
        println!("{:>12} bytes  {name}", fs::metadata(file)?.len());
    }
    println!(
        "{:>12} bytes  {}",
        fs::metadata(archive)?.len(),
        archive.display()
    );
    match glibc {
        Some(version) => {
            println!("needs glibc {version} or newer, by the symbols that it asks for")
        }
        None => println!("asks for no version of glibc"),
    }
    Ok(())
}

fn keep_to_the_baseline(needed: Option<(u32, u32)>) -> Result<()> {
    let (major, minor) = BASELINE.split_once('.').context("the baseline")?;
    let baseline = (major.parse()?, minor.parse()?);
    match needed.filter(|needed| *needed > baseline) {
        Some((major, minor)) => bail!("it needs glibc {major}.{minor}, and {BASELINE} is promised"),
        None => Ok(()),
    }
}

/// What was asked for.
struct Order {
    manner: Manner,
    twice: bool,
}

fn order(arguments: Vec<String>) -> Result<Order> {
    let (mut here, mut debug, mut twice) = (false, false, false);
    for argument in arguments {
        match argument.as_str() {
            "--twice" => twice = true,
            "--here" => here = true,
            "--debug" => debug = true,
            _ => crate::no_more("dist", &[argument])?,
        }
    }
    let manner = match debug {
        true => Manner::Debug,
        false => Manner::choose(here),
    };
    Ok(Order { manner, twice })
}

/// Lays everything into a fresh folder.
fn stage(built: &Built, manner: Manner, folder: &Path, name: &str) -> Result<PathBuf> {
    let staged = folder.join(name);
    if staged.exists() {
        fs::remove_dir_all(&staged)?;
    }
    // The folder that conf/config.yaml names; empty, so that nothing serves that nobody asked for.
    for part in ["plugins", "example-plugins", "conf", "completions", "docs"] {
        fs::create_dir_all(staged.join(part))?;
    }
    let program = staged.join("plugin-runner");
    lay(&built.program, &program)?;
    for library in &built.libraries {
        let file = library.file_name().context("a library has no name")?;
        lay(library, &staged.join("example-plugins").join(file))?;
    }
    if manner.strips_itself() {
        let mut strip = Command::new("strip");
        strip.arg("--strip-debug").args(programs(&staged)?);
        cargo::run(&mut strip)?;
    }
    for (from, to) in FILES {
        lay(&cargo::root().join(from), &staged.join(to))?;
    }
    let readme = staged.join("README.md");
    let text = fs::read_to_string(&readme)?.replace("@VERSION@", &built.version);
    fs::write(readme, text)?;
    for (shell, file) in SHELLS {
        let output = Command::new(&program).args(["completions", shell]).output();
        let output = output.context("starting the program that was built")?;
        if !output.status.success() || output.stdout.is_empty() {
            bail!("there are no completions for {shell}");
        }
        fs::write(staged.join("completions").join(file), output.stdout)?;
    }
    api::lay(&staged)?;
    checksums(&staged)?;
    Ok(staged)
}

fn lay(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

/// `SHA256SUMS` of everything, as `sha256sum --check` reads it.
fn checksums(staged: &Path) -> Result<()> {
    let mut files = Vec::new();
    files_in(staged, staged, &mut files)?;
    files.sort();
    let output = Command::new("sha256sum")
        .args(&files)
        .current_dir(staged)
        .output()
        .context("starting `sha256sum`")?;
    if !output.status.success() {
        bail!("`sha256sum` failed ({})", output.status);
    }
    Ok(fs::write(staged.join("SHA256SUMS"), output.stdout)?)
}

fn files_in(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_in(root, &path, files)?;
        } else {
            files.push(path.strip_prefix(root)?.to_owned());
        }
    }
    Ok(())
}

/// The archive: the same bytes for the same content, whoever packs it and when.
fn pack(folder: &Path, name: &str) -> Result<PathBuf> {
    let archive = folder.join(format!("{name}.tar.gz"));
    let tar = folder.join(format!("{name}.tar"));
    let mut command = Command::new("tar");
    command.args(["--create", "--format=gnu", "--sort=name", "--numeric-owner"]);
    command.args(["--owner=0", "--group=0", "--mode=u+w,go=rX"]);
    command.arg(format!("--mtime=@{}", time_of_the_commit()));
    command
        .arg("--file")
        .arg(&tar)
        .arg("--directory")
        .arg(folder);
    cargo::run(command.arg(name))?;
    // Without name and time of its own.
    cargo::run(
        Command::new("gzip")
            .args(["--no-name", "--best", "--force"])
            .arg(&tar),
    )?;
    let sum = Command::new("sha256sum")
        .arg(format!("{name}.tar.gz"))
        .current_dir(folder)
        .output()?;
    fs::write(folder.join(format!("{name}.tar.gz.sha256")), sum.stdout)?;
    Ok(archive)
}

/// SOURCE_DATE_EPOCH, else the time of the commit; 0 outside of a repository.
fn time_of_the_commit() -> String {
    if let Ok(time) = std::env::var("SOURCE_DATE_EPOCH") {
        return time;
    }
    let output = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(cargo::root())
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "0".to_owned())
}

/// The newest version of glibc that a symbol of any of the programs and libraries wants.
fn newest_glibc(programs: &[PathBuf]) -> Result<Option<(u32, u32)>> {
    let mut newest: Option<(u32, u32)> = None;
    for file in programs {
        newest = newest.max(versions(&fs::read(file)?).max());
    }
    Ok(newest)
}

/// The programs and libraries among what was laid.
fn programs(staged: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    files_in(staged, staged, &mut files)?;
    let mut files: Vec<_> = files.into_iter().map(|file| staged.join(file)).collect();
    files.retain(|file| traces::is_elf(file));
    files.sort();
    Ok(files)
}

/// The names of glibc's symbol versions in a file. They stand in its string table, each ended by a zero; a text of
/// this form elsewhere in the file would count too, so this is never too low.
fn versions(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    bytes.split(|byte| *byte == 0).filter_map(|text| {
        let numbers = std::str::from_utf8(text).ok()?.strip_prefix("GLIBC_")?;
        let (major, rest) = numbers.split_once('.')?;
        let minor = rest.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let bytes = b"\0GLIBC_2.9\0GLIBC_2.28\0GLIBC_2.2.5\0GLIBC_PRIVATE\0xGLIBC_9.9\0";
        assert_eq!(versions(bytes).max(), Some((2, 28)));
        assert_eq!(versions(b"none").max(), None);
    }

    #[test]
    fn the_same_content_gives_the_same_archive_whenever_and_in_which_order_it_was_laid() {
        let folder =
            std::env::temp_dir().join(format!("plugin-runner-pack-{}", std::process::id()));
        let pack_it = |names: [&str; 2], age: u64| {
            let staged = folder.join("packed");
            fs::create_dir_all(&staged).unwrap();
            for name in names {
                let file = staged.join(name);
                fs::write(&file, name).unwrap();
                let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
                let file = fs::File::options().append(true).open(file).unwrap();
                file.set_modified(time).unwrap();
            }
            let archive = pack(&folder, "packed").unwrap();
            fs::remove_dir_all(&staged).unwrap();
            fs::read(archive).unwrap()
        };
        let (first, second) = (pack_it(["a", "b"], 0), pack_it(["b", "a"], 86_400));
        fs::remove_dir_all(&folder).unwrap();
        assert!(first == second, "the archives differ");
    }
}
