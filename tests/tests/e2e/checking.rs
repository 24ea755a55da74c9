//! `check`: what a plugin's author is told about a library, good or broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::artifacts;
use plugin_runner::plugins::elf;
use serde_json::Value;
use tempfile::TempDir;

/// A folder that the user of probes may search.
fn folder() -> TempDir {
    e2e::open_folder()
}

fn check(arguments: &[&str]) -> Output {
    let mut command = Command::new(artifacts::runner());
    command.arg("check").args(arguments);
    command.output().unwrap()
}

/// The report about one file.
#[track_caller]
fn report(file: &Path, arguments: &[&str]) -> Value {
    let file = file.to_str().unwrap();
    let output = check(&[&["--json", file], arguments].concat());
    let reports: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let report = reports[0].clone();
    let code = if report["serves"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{report}");
    report
}

fn ids(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect()
}

/// What is found in a file that cannot serve: the gravest finding, and what it says.
#[track_caller]
fn refused(file: &Path, arguments: &[&str], id: &str, says: &str) {
    let report = report(file, arguments);
    assert_eq!(report["serves"], false, "{report}");
    assert!(ids(&report).contains(&id), "{report}");
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|it| it["id"] == id).unwrap();
    assert_eq!(finding["level"], "error");
    assert!(
        finding["what"].as_str().unwrap().contains(says),
        "{finding}"
    );
    for field in ["means", "mend"] {
        assert!(!finding[field].as_str().unwrap().is_empty(), "{finding}");
    }
}

/// A file with the bytes of `stop`, some of them changed.
fn stop_with(folder: &TempDir, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(artifacts::library("stop")).unwrap();
    change(&mut bytes);
    let file = folder.path().join("libstop.so");
    fs::write(&file, bytes).unwrap();
    file
}

/// Where the metadata begins.
fn metadata(bytes: &[u8]) -> usize {
    let section = elf::section(bytes, ".plugin_runner").unwrap();
    section.as_ptr() as usize - bytes.as_ptr() as usize
}

/// A library written in C: with the metadata of `stop`, and a header that is none.
fn library_in_c(folder: &TempDir, source: &str, arguments: &[&str]) -> PathBuf {
    let bytes = fs::read(artifacts::library("stop")).unwrap();
    let section = elf::section(&*bytes, ".plugin_runner").unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("metadata"), section).unwrap();
    let metadata = path("metadata").display().to_string();
    let source = format!(
        "__asm__(\".section .plugin_runner,\\\"a\\\"\\n.incbin \\\"{metadata}\\\"\\n.previous\");\n\
         char plugin_runner_header[64] = {{1}};\n{source}\n"
    );
    fs::write(path("made.c"), source).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"])
        .args([path("libmade.so"), path("made.c")]);
    assert!(cc.args(arguments).status().unwrap().success());
    path("libmade.so")
}

#[test]
fn a_good_library_is_described_and_serves() {
    let report = report(&artifacts::library("stop"), &["--conf", "{}"]);
    assert_eq!(report["serves"], true, "{report}");
    assert_eq!(report["abi"], "1.0");
    assert_eq!(report["panic"], "unwind");
    assert_eq!(report["plugins"][0]["name"], "stop");
    assert_eq!(report["plugins"][0]["phases"][0], "access");
    assert_eq!(report["schema"]["properties"]["status"]["maximum"], 599);
    assert_eq!(report["call"]["outcome"]["status"], 200);
    assert!(report["call"]["again"]["median_ns"].as_u64().unwrap() > 0);
    let bytes = fs::read(artifacts::library("stop")).unwrap();
    assert_eq!(report["sha256"], artifacts::sha256(&bytes));
}

#[test]
fn people_get_a_text_without_colours_where_no_terminal_is() {
    let library = artifacts::library("stop").display().to_string();
    let output = check(&[&library]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(
        text.starts_with(&format!("{library}: `start` would serve it")),
        "{text}"
    );
    assert!(
        text.contains("stop 0.1.0, priority 0") && !text.contains('\x1b'),
        "{text}"
    );
}

#[test]
fn a_file_that_is_no_library_is_told_what_it_is() {
    let folder = folder();
    refused(
        Path::new("/nonexistent.so"),
        &[],
        "file/unreadable",
        "No such file",
    );
    refused(folder.path(), &[], "file/unreadable", "is a folder");
    refused(
        Path::new("/etc/passwd"),
        &[],
        "elf/not-elf",
        "is not an ELF file",
    );
    let cut = stop_with(&folder, |bytes| bytes.truncate(bytes.len() / 2));
    refused(&cut, &[], "elf/truncated", "is truncated: needs ");
    let empty = stop_with(&folder, Vec::clear);
    refused(&empty, &[], "elf/truncated", "has 0");
    let executable = stop_with(&folder, |bytes| bytes[16] = 2);
    refused(&executable, &[], "elf/not-a-library", "an executable");
    let arm = stop_with(&folder, |bytes| {
        bytes[18..20].copy_from_slice(&183u16.to_le_bytes())
    });
    let other = if cfg!(target_arch = "aarch64") {
        ""
    } else {
        "aarch64"
    };
    if !other.is_empty() {
        refused(&arm, &[], "elf/machine", "is built for aarch64");
    }
    // What cannot be read says nothing of metadata.
    let small = stop_with(&folder, |bytes| bytes[4] = 1);
    for arguments in [&[][..], &["--metadata-only"]] {
        refused(&small, arguments, "elf/machine", "32-bit");
        assert_eq!(ids(&report(&small, arguments)), ["elf/machine"]);
    }
}

#[test]
fn a_library_that_does_not_fit_is_told_why_before_any_of_its_code_runs() {
    let folder = folder();
    let patch = |at: usize, byte: u8| {
        stop_with(&folder, |bytes| {
            let at = metadata(bytes) + at;
            bytes[at] = byte;
        })
    };
    refused(
        &patch(8, 9),
        &[],
        "abi/other-major",
        "was built for plugin ABI 9.0",
    );
    refused(&patch(16, 0), &[], "panic/abort", "panic = \"abort\"");
    refused(
        &patch(0, 0),
        &[],
        "metadata/missing",
        "has no plugin-api metadata",
    );
    refused(
        &patch(12, 255),
        &[],
        "metadata/unreadable",
        "cannot be read",
    );
    let newer = report(&patch(10, 7), &[]);
    assert!(
        newer["serves"] == true && ids(&newer).contains(&"abi/newer-minor"),
        "{newer}"
    );
    let target = artifacts::patched("stop", b"-unknown-linux-gnu", b"-unknown-linux-gno");
    fs::write(folder.path().join("libt.so"), target).unwrap();
    refused(
        &folder.path().join("libt.so"),
        &[],
        "target/other",
        "linux-gno",
    );
}

#[test]
fn a_library_in_c_that_is_no_plugin_is_refused_and_not_entered() {
    let folder = folder();
    let plain = folder.path().join("plain.c");
    fs::write(&plain, "int f(void) { return 1; }").unwrap();
    let file = folder.path().join("libplain.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).args([&file, &plain]);
    assert!(cc.status().unwrap().success());
    refused(&file, &[], "metadata/missing", "has no plugin-api metadata");
    let made = library_in_c(&folder, "", &[]);
    refused(&made, &[], "probe/refused", "another abi_stable");
    let hidden = library_in_c(
        &folder,
        "",
        &["-Wl,--exclude-libs,ALL", "-fvisibility=hidden"],
    );
    refused(&hidden, &[], "metadata/no-header", "plugin_runner_header");
}

#[test]
fn a_library_that_crashes_ends_or_hangs_where_it_is_opened_is_told_so() {
    let folder = folder();
    let constructor = |body: &str| {
        let source = format!(
            "#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void f(void) {{ {body} }}"
        );
        library_in_c(&folder, &source, &[])
    };
    refused(
        &constructor("abort();"),
        &[],
        "probe/crashed",
        "while it was opened (in a constructor)",
    );
    refused(
        &constructor("_exit(0);"),
        &[],
        "probe/crashed",
        "exit status: 0",
    );
    let config = folder.path().join("config.yaml");
    fs::write(&config, "plugins:\n  probe_deadline: 300ms\n").unwrap();
    let config = config.display().to_string();
    refused(
        &constructor("for (;;) pause();"),
        &["--config", &config],
        "probe/hung",
        "did not come back within 300ms",
    );
}

#[test]
fn what_the_machine_lacks_is_told_by_name() {
    let folder = folder();
    fs::write(folder.path().join("gone.c"), "int gone(void) { return 1; }").unwrap();
    let gone = folder.path().join("libgone.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wl,-soname,libgone.so.7", "-o"])
        .arg(&gone);
    assert!(
        cc.arg(folder.path().join("gone.c"))
            .status()
            .unwrap()
            .success()
    );
    let source = "int gone(void); int use(void) { return gone(); }";
    let undefined = library_in_c(&folder, source, &[]);
    refused(
        &undefined,
        &[],
        "linker/undefined-symbol",
        "undefined symbol: gone",
    );
    let made = library_in_c(&folder, source, &[gone.to_str().unwrap()]);
    let report = report(&made, &[]);
    let found = ids(&report);
    assert!(found.contains(&"linker/missing-library"), "{report}");
    assert!(found.contains(&"probe/refused"), "{report}");
    let said = report.to_string();
    assert!(said.contains("libgone.so.7: cannot open"), "{said}");
    let stop = artifacts::library("stop");
    refused(
        &stop,
        &["--metadata-only", "--glibc", "2.5"],
        "glibc/too-new",
        "is to run on 2.5",
    );
    refused(
        &stop,
        &["--glibc", "2.5"],
        "glibc/too-new",
        "is to run on 2.5",
    );
}

#[test]
fn a_library_that_wants_to_run_its_stack_is_noted() {
    let folder = folder();
    let made = library_in_c(&folder, "", &["-Wl,-z,execstack"]);
    let report = report(&made, &["--metadata-only"]);
    assert!(ids(&report).contains(&"elf/executable-stack"), "{report}");
}

#[test]
fn a_symbol_clashes_only_if_the_plugins_own_code_means_it() {
    let folder = folder();
    let own = "int getpid(void) { return 7; }\nint use(void) { return getpid(); }";
    let report_of = |file: &Path| report(file, &["--metadata-only"]);
    let clash = report_of(&library_in_c(&folder, own, &[]));
    assert!(ids(&clash).contains(&"symbols/clash"), "{clash}");
    assert!(clash.to_string().contains("`getpid` (also in libc.so.6)"));
    // Nobody looks it up by name here: bound inside of the library, or not used at all.
    let bound = report_of(&library_in_c(&folder, own, &["-Wl,-Bsymbolic"]));
    assert!(!ids(&bound).contains(&"symbols/clash"), "{bound}");
    let unused = report_of(&library_in_c(
        &folder,
        "int getpid(void) { return 7; }",
        &[],
    ));
    assert!(!ids(&unused).contains(&"symbols/clash"), "{unused}");
    assert!(!ids(&report_of(&artifacts::library("stop"))).contains(&"symbols/clash"));
}

#[test]
fn metadata_only_runs_nothing_of_the_file() {
    let folder = folder();
    let mark = folder.path().join("ran");
    fs::write(&mark, "").unwrap();
    let mark = mark.display();
    // Whoever the probe is may write it.
    let source = format!(
        "#include <stdio.h>\n__attribute__((constructor)) static void f(void) {{ fputs(\"it ran\\n\", stderr); fflush(stderr); }}\n// {mark}"
    );
    let made = library_in_c(&folder, &source, &[]);
    let file = made.to_str().unwrap();
    let said = |arguments: &[&str]| String::from_utf8(check(arguments).stderr).unwrap();
    assert!(said(&[file]).contains("plugin output: it ran"));
    let quiet = said(&["--metadata-only", file]);
    assert!(!quiet.contains("it ran"), "{quiet}");
    if cfg!(target_arch = "x86_64") {
        let arm = stop_with(&folder, |bytes| {
            bytes[18..20].copy_from_slice(&183u16.to_le_bytes())
        });
        let report = report(&arm, &["--metadata-only"]);
        assert_eq!(report["serves"], true, "{report}");
        assert!(ids(&report).contains(&"elf/machine"), "{report}");
    }
}

#[test]
fn folders_of_the_builder_are_found_in_the_texts_of_a_library() {
    let folder = folder();
    let source = "const char *place = \"/home/anna/secret-project/src/lib.rs\"; int use(void) { return place[0]; }";
    let report = report(&library_in_c(&folder, source, &[]), &["--metadata-only"]);
    assert!(ids(&report).contains(&"paths/home"), "{report}");
    assert!(
        report
            .to_string()
            .contains("1 source file below /home/anna"),
        "{report}"
    );
}

#[test]
fn the_configuration_has_its_say_where_it_is_given() {
    let folder = folder();
    let stop = artifacts::library("stop");
    let config = folder.path().join("config.yaml");
    let path = config.display().to_string();
    let sum = artifacts::sha256(b"another file");
    fs::write(&config, format!("plugins:\n  allow: [{sum}]\n")).unwrap();
    refused(
        &stop,
        &["--config", &path],
        "config/not-allowed",
        "is not in plugins.allow",
    );
    fs::write(&config, "plugins:\n  disabled: [stop]\n").unwrap();
    refused(
        &stop,
        &["--config", &path],
        "config/disabled",
        "`stop` is not enabled",
    );
    fs::write(
        &config,
        "plugins:\n  settings: {misbehaving: {init: abort}}\n",
    )
    .unwrap();
    refused(
        &artifacts::library("misbehaving"),
        &["--config", &path],
        "probe/crashed",
        "in init_worker",
    );
}

#[test]
fn a_configuration_and_a_call_are_tried() {
    let folder = folder();
    let library = artifacts::library("misbehaving");
    let conf = |mode: &str| format!("{{\"mode\": \"{mode}\"}}");
    let refuse =
        |mode: &str, id: &str, says: &str| refused(&library, &["--conf", &conf(mode)], id, says);
    refuse("refuse", "conf/refused", "was told to refuse");
    refuse(
        "panic_in_configure",
        "conf/refused",
        "configured as it was told to",
    );
    refuse(
        "error",
        "call/failed",
        "GET / failed in access: was told to fail",
    );
    refuse("panic", "call/failed", "panicked as it was told to");
    refuse(
        "abort",
        "probe/crashed",
        "in access crashed and ended the process",
    );
    refused(
        &library,
        &["--conf", "{\"mod\": 1}"],
        "conf/refused",
        "did you mean `mode`?",
    );
    let asks = report(&library, &["--conf", &conf("ask")]);
    assert!(ids(&asks).contains(&"call/undeclared"), "{asks}");
    let request = folder.path().join("sample.http");
    fs::write(&request, "GET /x?y=1\nHost: shop.test\n").unwrap();
    let request = request.display().to_string();
    let say = report(
        &artifacts::library("say"),
        &["--conf", r#"{"body": "hi"}"#, "--request", &request],
    );
    assert_eq!(say["call"]["call"], "GET /x?y=1");
    assert_eq!(say["call"]["outcome"]["body"], "hi");
}

#[test]
fn several_files_are_judged_together_and_wrong_arguments_have_their_own_code() {
    let folder = folder();
    let (stop, say) = (artifacts::library("stop"), artifacts::library("say"));
    let again = stop_with(&folder, |_| {});
    let path = |file: &Path| file.display().to_string();
    let output = check(&[&path(&stop), &path(&say), &path(&again), "--metadata-only"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.matches("[config/same-name]").count(), 2, "{text}");
    assert!(
        text.contains("libsay.so: nothing speaks against it"),
        "{text}"
    );
    for wrong in [
        &["--glibc", "new"][..],
        &["--metadata-only", "--conf", "{}"],
        &[],
    ] {
        let file = path(&stop);
        let arguments = if wrong.is_empty() {
            vec![]
        } else {
            [&[file.as_str()], wrong].concat()
        };
        assert_eq!(check(&arguments).status.code(), Some(64), "{wrong:?}");
    }
}
