//! A Python with pinned packages of its own, in a folder under `target/`.

use std::path::{Path, PathBuf};

use crate::command::{Child, Failure, Outcome};

/// An environment of its own; where Python comes without the module for that, a plain folder that
/// the Python of the machine is told to look into.
pub(crate) struct Python {
    folder: PathBuf,
}

impl Python {
    /// The environment in `folder` with exactly what the file of requirements says, made anew
    /// when it was made from something else.
    pub(crate) fn with(folder: &Path, requirements: &Path) -> Result<Self, Failure> {
        let broken = |path: &Path, error| Failure::new(format!("{}: {error}", path.display()));
        let wanted =
            std::fs::read_to_string(requirements).map_err(|error| broken(requirements, error))?;
        let receipt = folder.join("requirements.installed");
        if std::fs::read_to_string(&receipt).unwrap_or_default() == wanted {
            return Ok(Self {
                folder: folder.to_owned(),
            });
        }
        let python = Self::create(folder)?;
        python.install(&[
            "--requirement".to_owned(),
            requirements.display().to_string(),
        ])?;
        std::fs::write(&receipt, wanted).map_err(|error| broken(&receipt, error))?;
        Ok(python)
    }

    /// An environment in `folder` without any package.
    pub(crate) fn create(folder: &Path) -> Result<Self, Failure> {
        let environment =
            Child::new("python3", "-m venv --clear").argument(folder.display().to_string());
        if let Err(failure) = environment.run() {
            eprintln!("cargo x: {failure}; installing into a plain folder instead");
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Installs what pip understands by these arguments.
    pub(crate) fn install(&self, arguments: &[String]) -> Outcome {
        let mut pip = self
            .child(None)
            .arguments(&["-m", "pip", "install"].map(str::to_owned));
        if self.own_program().is_none() {
            pip = pip
                .argument("--upgrade")
                .argument("--target")
                .argument(self.folder.display().to_string());
        }
        pip.argument("--quiet")
            .argument("--disable-pip-version-check")
            .arguments(arguments)
            .run()
    }

    /// A call of this Python. `modules` is a folder to look for modules in besides.
    pub(crate) fn child(&self, modules: Option<&Path>) -> Child {
        let own = self.own_program();
        let plain = own.is_none().then_some(self.folder.as_path());
        let folders: Vec<String> = [modules, plain]
            .into_iter()
            .flatten()
            .map(|folder| folder.display().to_string())
            .collect();
        let program = own.map_or("python3".to_owned(), |program| {
            program.display().to_string()
        });
        Child::new(program, "").variable("PYTHONPATH", folders.join(":"))
    }

    fn own_program(&self) -> Option<PathBuf> {
        Some(self.folder.join("bin/python3")).filter(|program| program.is_file())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Python;

    #[test]
    fn a_plain_folder_is_looked_into_after_the_modules_asked_for() {
        let python = Python {
            folder: "no-such-folder".into(),
        };
        let shown = |modules| python.child(modules).to_string();
        assert_eq!(shown(None), r#"PYTHONPATH="no-such-folder" python3"#);
        let both = r#"PYTHONPATH="modules:no-such-folder" python3"#;
        assert_eq!(shown(Some(Path::new("modules"))), both);
    }

    #[test]
    fn an_environment_that_was_made_from_these_requirements_is_kept() {
        let folder = std::env::temp_dir().join(format!("x-python-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let requirements = folder.join("requirements.txt");
        let text = "nothing==1\n";
        std::fs::write(&requirements, text).expect("a file for the test");
        std::fs::write(folder.join("requirements.installed"), text).expect("a file for the test");
        let python = Python::with(&folder, &requirements);
        std::fs::remove_dir_all(&folder).expect("the folder is ours to remove");
        assert!(python.is_ok_and(|python| python.folder == folder));
    }
}
