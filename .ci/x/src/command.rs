//! Runs one child process: prints it first, and hands its exit code on.

use std::fmt;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// What a verb came to: nothing to add, or why it stopped.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a verb stopped, and the exit code that says so to the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) reason: String,
}

impl Failure {
    /// A failure found here rather than by a child: exit code 1.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            code: 1,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.reason)
    }
}

/// The folder that holds the workspace. The verbs run there, wherever they were called from.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("the package x is two folders below the root")
}

/// A child process in the making.
pub(crate) struct Child {
    program: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
}

impl Child {
    /// A call of `program`, with the arguments in `words` (separated by blanks).
    pub(crate) fn new(program: impl Into<String>, words: &str) -> Self {
        Self {
            program: program.into(),
            arguments: words.split_whitespace().map(str::to_owned).collect(),
            variables: Vec::new(),
            folder: root().to_owned(),
        }
    }

    /// A call of cargo.
    pub(crate) fn cargo(words: &str) -> Self {
        Self::new("cargo", words)
    }

    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn arguments(mut self, arguments: &[String]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    /// Sets an environment variable for this child only.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Runs this child in `folder` instead of in the root.
    pub(crate) fn inside(mut self, folder: PathBuf) -> Self {
        self.folder = folder;
        self
    }

    /// Runs the child to its end, its output going where ours goes.
    pub(crate) fn run(self) -> Outcome {
        eprintln!("+ {self}");
        let status = self.command().status();
        self.judge(status)
    }

    /// Runs the child to its end, its output going to a file of its own.
    pub(crate) fn run_into(self, path: &Path) -> Outcome {
        eprintln!("+ {self} > {}", path.display());
        let log = File::create(path).and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) =
            log.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
        let status = self.command().stdout(out).stderr(err).status();
        self.judge(status)
    }

    /// Runs the child and answers what it printed, without the blanks at both ends.
    pub(crate) fn output(self) -> Result<String, Failure> {
        eprintln!("+ {self}");
        let output = self.command().stderr(Stdio::inherit()).output();
        match output {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                self.judge(Ok(output.status)).map(|()| text)
            }
            Err(error) => self.judge(Err(error)).map(|()| String::new()),
        }
    }

    /// Whether the child can be started and ends well. Prints nothing.
    pub(crate) fn succeeds(&self) -> bool {
        let status = self
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    fn judge(&self, status: std::io::Result<ExitStatus>) -> Outcome {
        let status = status.map_err(|error| Failure {
            code: NOT_FOUND,
            reason: format!("cannot start `{}`: {error}", self.program),
        })?;
        if status.success() {
            return Ok(());
        }
        Err(Failure {
            code: exit_code(status),
            reason: format!("`{self}` ended with {status}"),
        })
    }
}

impl fmt::Display for Child {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.variables {
            write!(out, "{name}={value:?} ")?;
        }
        out.write_str(&self.program)?;
        for argument in &self.arguments {
            if argument.contains(char::is_whitespace) {
                write!(out, " {argument:?}")?;
            } else {
                write!(out, " {argument}")?;
            }
        }
        Ok(())
    }
}

/// Where `path`, given from the root, is.
pub(crate) fn at_root(path: &str) -> PathBuf {
    root().join(path)
}

/// The code a shell would give: the child's own, or 128 and the signal that killed it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1).max(1)
}

/// What a shell answers when there is no such program.
const NOT_FOUND: u8 = 127;

#[cfg(test)]
mod tests {
    use super::{Child, Failure, root};

    fn code(child: Child) -> u8 {
        child.run().map_or_else(|failure| failure.code, |()| 0)
    }

    #[test]
    fn the_exit_code_of_a_child_is_passed_on() {
        let shell = |script: &str| Child::new("sh", "-c").argument(script);
        assert_eq!(code(shell("exit 0")), 0);
        assert_eq!(code(shell("exit 101")), 101);
        assert_eq!(code(shell("kill -9 $$")), 137);
        assert_eq!(code(Child::new("no-such-program-anywhere", "")), 127);
    }

    #[test]
    fn a_variable_reaches_this_child_only() {
        let shown = |child: Child| child.argument("echo ${X_PROBE-unset}").output();
        let probe = || Child::new("sh", "-c");
        let set = probe().variable("X_PROBE", "here");
        assert_eq!(shown(set), Ok("here".to_owned()));
        assert_eq!(shown(probe()), Ok("unset".to_owned()));
    }

    #[test]
    fn a_child_is_shown_as_it_could_be_typed() {
        let child = Child::cargo("run --quiet")
            .argument("two words")
            .variable("RUSTFLAGS", "--cfg madsim");
        assert_eq!(
            child.to_string(),
            r#"RUSTFLAGS="--cfg madsim" cargo run --quiet "two words""#
        );
    }

    #[test]
    fn the_root_is_the_folder_of_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml"));
        let manifest = manifest.expect("the root has a manifest");
        assert!(manifest.contains("[workspace]"));
        assert_eq!(Failure::new("why").to_string(), "why");
    }
}
