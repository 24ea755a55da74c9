//! Whether OPERATIONS.md and the README say what is so: their YAML is YAML, and what they call a configuration of the
//! runner is one to the runner. Runs no container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const RUNNER: &str = env!("CARGO_BIN_EXE_plugin-runner");
const PAGE: &str = include_str!("../OPERATIONS.md");
const README: &str = include_str!("../../README.md");

/// The code blocks of a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str())
        .skip(1)
        .map(|block| block.split("```").next().unwrap_or(block))
        .collect()
}

#[test]
fn all_yaml_of_the_pages_is_yaml() {
    let all = [blocks(PAGE, "yaml"), blocks(README, "yaml")].concat();
    assert!(all.len() > 6, "{}", all.len());
    for block in all {
        for event in saphyr_parser::Parser::new_from_str(block) {
            event.unwrap_or_else(|fault| panic!("{fault}:\n{block}"));
        }
    }
}

#[track_caller]
fn is_good(config: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.yaml");
    fs::write(&file, config).expect("a file");
    let mut runner = Command::new(RUNNER);
    runner.args(["start", "--test", "--config"]).arg(&file);
    runner.env_remove("APISIX_LISTEN_ADDRESS");
    let output = runner.output().expect("the runner runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{config}");
}

#[test]
fn the_runners_configurations_on_the_page_are_good() {
    let own = blocks(PAGE, "yaml");
    let own = own
        .iter()
        .filter(|block| block.starts_with("# config.yaml"));
    assert_eq!(own.map(|block| is_good(block)).count(), 3);
    let (_, map) = PAGE.split_once("  config.yaml: |\n").unwrap();
    let (map, _) = map.split_once("---").unwrap();
    is_good(&map.replace("\n    ", "\n").replacen("    ", "", 1));
}

#[test]
fn the_init_container_makes_a_folder_that_is_not_refused() {
    let line = PAGE.lines().find(|line| line.contains("mkdir -p -m 0755"));
    let command = line.unwrap().trim_start().trim_start_matches("- ");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, mode) in [("shared", 0o777), ("plugins", 0o755)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let library = folder.path().join("plugins/liba.so");
    fs::write(&library, "x").unwrap();
    fs::set_permissions(&library, fs::Permissions::from_mode(0o666)).unwrap();
    let command = command.replace("/shared", &path("shared"));
    let command = command.replace(" /plugins/", &format!(" {}/", path("plugins")));
    let run = |command: &str| Command::new("/bin/sh").args(["-ec", command]).status();
    assert!(run(&format!("umask 0; {command}")).unwrap().success());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("shared/plugins")), 0o755);
    assert_eq!(mode(&folder.path().join("shared/plugins/liba.so")), 0o644);
}
