//! Every kind of finding, with its stable id. Decides nothing.

use super::finding::Kind;
use super::finding::Level::{Error, Note, Warning};

macro_rules! kinds {
    ($($name:ident = $level:ident $id:literal, $means:literal, $mend:literal;)*) => {
        $(pub(super) const $name: Kind = Kind { id: $id, level: $level, means: $means, mend: $mend };)*

        /// All of them.
        #[cfg(test)]
        const ALL: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    // The file.
    UNREADABLE = Error "file/unreadable",
        "There is nothing to look at.",
        "Name a library: `target/release/libNAME.so` after `cargo build --release`.";
    NOT_ELF = Error "elf/not-elf",
        "Only a shared library can be a plugin.",
        "Name the `.so` file that cargo made, with crate-type = [\"cdylib\"] in Cargo.toml.";
    TRUNCATED = Error "elf/truncated",
        "The file is shorter than its own tables say; opening it would crash the process.",
        "Copy it again, and compare the sizes. Write it elsewhere on the same disk, then rename it into the folder.";
    DAMAGED = Error "elf/damaged",
        "The file contradicts itself.",
        "Build or copy it again.";
    MACHINE = Error "elf/machine",
        "This machine cannot run the code.",
        "Build it for this machine: `cargo build --release --target …`, or check it there.";
    NOT_LIBRARY = Error "elf/not-a-library",
        "Only a shared library can be opened.",
        "Set crate-type = [\"cdylib\"] under [lib] in Cargo.toml.";
    EXECUTABLE_STACK = Warning "elf/executable-stack",
        "The library makes the stack of the whole process executable; glibc 2.41 and newer, and hardened systems, refuse to open it.",
        "An object of C or assembly lacks a .note.GNU-stack section: build it with `-Wa,--noexecstack`, or link with `-C link-arg=-Wl,-z,noexecstack`.";
    // What it says of itself.
    NOT_A_PLUGIN = Error "metadata/missing",
        "The library has no metadata of plugin-api: it is no plugin, or lost the section `.plugin_runner`.",
        "Put #[plugin] on `impl Plugin for …`, and keep the section when stripping (`strip --strip-debug` does).";
    METADATA = Error "metadata/unreadable",
        "The metadata of plugin-api is damaged.",
        "Build or copy the library again.";
    NO_HEADER = Error "metadata/no-header",
        "The symbol by which the runner enters the library is not there.",
        "Put #[plugin] on `impl Plugin for …` of the cdylib's own crate, and do not hide symbols with a version script.";
    ABI_MAJOR = Error "abi/other-major",
        "Runner and library do not understand each other.",
        "Rebuild it against plugin-api of this runner's ABI, or use a runner of the library's.";
    ABI_NEWER = Note "abi/newer-minor",
        "It loads. What this runner is too old for returns an error to the plugin.",
        "Upgrade the runner, or say `min_runner` in #[plugin] if the plugin cannot do without.";
    ABORTS = Error "panic/abort",
        "A panic in it would end the worker with all calls in flight; unwinding costs one call.",
        "Remove `panic = \"abort\"` from the profile that builds it.";
    OTHER_TARGET = Error "target/other",
        "It was built for another kind of system.",
        "Rebuild it for this one: `cargo build --release --target …`.";
    RUNNER_TOO_OLD = Error "runner/too-old",
        "The author says that the plugin cannot do without a newer runner.",
        "Upgrade the runner, or lower `min_runner` in #[plugin].";
    // What it asks of the machine.
    GLIBC = Error "glibc/too-new",
        "The library was linked against a newer C library than the one it is to run on, which has no such symbols.",
        "Build it where the C library is as old: in an older image, or with `cargo zigbuild --target x86_64-unknown-linux-gnu.2.28`.";
    SYMBOL_VERSION = Error "linker/missing-version",
        "A shared library of this machine is older than the one it was linked against.",
        "Install the newer one, or build against the older one.";
    MISSING_LIBRARY = Warning "linker/missing-library",
        "It was not found in the usual folders; without it the library cannot be opened.",
        "Install it where the runner runs, or link it into the plugin (`static` features of -sys crates).";
    UNDEFINED = Error "linker/undefined-symbol",
        "The library calls a function that neither it nor a shared library that it needs has, so it cannot be opened.",
        "Link what has the function: `cargo:rustc-link-lib=NAME` in build.rs, or the -sys crate's feature; `needs` above lists what is linked.";
    ORIGIN = Warning "linker/origin",
        "The runner opens a private copy from another folder, where `$ORIGIN` leads nowhere.",
        "Install the libraries in a folder of the system, or link them into the plugin.";
    STATIC_TLS = Warning "linker/static-tls",
        "Its thread-local data takes room that a process has little of: after some replaced builds the next one cannot be opened before the worker is renewed.",
        "Build the C code in it without `-ftls-model=initial-exec` (jemalloc: feature `disable_initial_exec_tls`).";
    CLASH = Warning "symbols/clash",
        "Libraries are opened apart from each other (RTLD_LOCAL), but what the runner's process has already comes first: where the plugin's code means its own symbol of this name, it gets the other one.",
        "Give it another name, or do not export it: remove #[no_mangle], or link C code with `-fvisibility=hidden`.";
    UNIQUE = Warning "symbols/unique",
        "A symbol of this kind (a static of C++) exists once in a process: a new build of the plugin goes on with the data of the old one.",
        "Build the C++ code with `-fno-gnu-unique`.";
    // What it shows of its builder.
    HOME = Warning "paths/home",
        "Panic messages and logs show them to whoever has the file.",
        "RUSTFLAGS=\"--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo --remap-path-prefix=$PWD=.\" cargo build --release";
    HOME_IN_DEBUG_INFO = Note "paths/home-in-debug-info",
        "Debug information names them; whoever has the file can read it.",
        "As for panics: --remap-path-prefix; or `strip = \"debuginfo\"` in the profile, at the cost of line numbers in backtraces.";
    LARGE_DEBUG_INFO = Note "size/debug-info",
        "Copying and hashing it takes longer than need be; it is not loaded into memory.",
        "strip = \"debuginfo\" in [profile.release]: names of functions stay for backtraces and gdb, and a panic says its file and line itself.";
    STRIPPED = Note "size/stripped",
        "Backtraces of panics and debuggers show addresses instead of names.",
        "Leave `strip` out of the profile, or say strip = \"debuginfo\". zig's linker takes that for everything: strip = \"none\", then `strip --strip-debug FILE`.";
    // What the configuration says.
    UNLISTED = Error "config/not-allowed",
        "plugins.allow names the libraries that may be loaded, by their hash.",
        "Add the hash to plugins.allow if the file is trusted.";
    DISABLED = Error "config/disabled",
        "The configuration does not want this plugin.",
        "See plugins.enabled and plugins.disabled.";
    WRITABLE = Warning "file/writable",
        "Lying in the plugins folder like this it would be refused: whoever can write it can run code in the runner.",
        "chown root, chmod go-w; `install -m 644` does both.";
    SAME_NAME = Error "config/same-name",
        "Of two libraries that offer one plugin, neither serves at a cold start.",
        "Remove one, rename one with #[plugin(name = \"…\")], or name the file in plugins.files.";
    // What its own code does.
    REFUSED = Error "probe/refused",
        "The library was opened and started as the runner does it, and said no.",
        "Correct what it says.";
    CRASHED = Error "probe/crashed",
        "The library ended the process in which it was tried.",
        "Correct the code that runs there: constructors, init_worker, configure, Drop.";
    HUNG = Error "probe/hung",
        "The library did not come back in time when it was tried.",
        "Do not wait in init_worker or configure for what may never come; plugins.probe_deadline is the limit.";
    NOT_PROBED = Error "probe/not-possible",
        "The library could not be tried here.",
        "See the cause; --metadata-only needs no process.";
    CONF_REFUSED = Error "conf/refused",
        "Calls of a route with this configuration would be answered with 503.",
        "Correct the configuration; `plugin-runner schema PLUGIN` shows what may stand in it.";
    CALL_FAILED = Error "call/failed",
        "A request like this would be answered with 503.",
        "See the reason; the log has file and line of a panic.";
    UNDECLARED = Note "call/undeclared",
        "Each question that no phase declares costs a round trip to the gateway, and keeps the plugin off the event loop.",
        "Declare it on the phase: #[needs(variables(\"…\"), request_body)].";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_kind_says_what_it_means_and_what_to_do() {
        let mut ids: Vec<_> = ALL.iter().map(|kind| kind.id).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all);
        for kind in ALL {
            assert!(kind.id.contains('/') && !kind.means.is_empty() && !kind.mend.is_empty());
        }
    }
}
