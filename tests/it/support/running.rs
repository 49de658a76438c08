//! The binary in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// The key of the app that a test lets a server create.
pub(crate) const BOOTSTRAP_KEY: &str = "bootstrap-key-of-the-process-tests-01";

/// The binary with these words, in this folder and in an environment that holds nothing else.
pub(crate) fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(words);
    dressed(command, folder)
}

/// The program: the one of this build, unless the run names another.
#[expect(
    clippy::disallowed_methods,
    reason = "a test run is told by its environment which build it is to measure"
)]
fn program() -> PathBuf {
    let named = std::env::var_os("CAMPANILE_TEST_BINARY").map(PathBuf::from);
    let named = named.map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_campanile").into())
}

/// A server that starts after these words of a shell, such as those that limit what it may have.
pub(crate) fn after(folder: &Path, words: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args([
        "-c",
        &format!("{words} && exec \"$0\" serve"),
        env!("CARGO_BIN_EXE_campanile"),
    ]);
    dressed(command, folder)
}

fn dressed(mut command: Command, folder: &Path) -> Command {
    command.env_clear().current_dir(folder).kill_on_drop(true);
    command
        .env("CAMPANILE_LISTEN", "127.0.0.1:0")
        .env("CAMPANILE_LOG_FORMAT", "json");
    command
}

/// A server in a process of its own.
pub(crate) struct Running {
    pub(crate) child: Child,
    /// `http://127.0.0.1:<port>`.
    pub(crate) url: String,
    /// What it has logged since the start.
    said: Arc<Mutex<String>>,
    /// Reads on all the time: a server whose log nobody reads stands still once the pipe is full.
    log: JoinSet<()>,
}

impl Running {
    /// Starts a server, and returns once it listens.
    pub(crate) async fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_by(command(folder, &["serve"]), settings).await
    }

    /// The same by a command that ends in the server.
    pub(crate) async fn start_by(mut command: Command, settings: &[(&str, &str)]) -> Self {
        command
            .envs(settings.iter().copied())
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = loop {
            let line = lines.next_line().await.unwrap().unwrap();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let Some(url) = line["url"].as_str() {
                break url.to_owned();
            }
        };
        let (mut log, said) = (JoinSet::new(), Arc::<Mutex<String>>::default());
        let heard = Arc::clone(&said);
        log.spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        Self { child, url, said, log }
    }

    /// What it has logged since the start.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Sends SIGTERM.
    pub(crate) async fn signal(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .await
                .unwrap()
                .success()
        );
    }

    /// The exit code and the log since the start.
    pub(crate) async fn exit(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().await.unwrap().code();
        while self.log.join_next().await.is_some() {}
        (code, self.said())
    }
}
