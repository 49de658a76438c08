//! A PostgreSQL cluster of a test's own, which it may crash and start again. It writes as one in production does: what was
//! acknowledged survives.

use std::process::Command;

use super::database::server;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/setup/postgres.sh");

/// One cluster; removed with the value.
pub(crate) struct Cluster {
    folder: String,
    /// The database to be used in it.
    pub(crate) url: String,
}

impl Cluster {
    /// Starts one, unless this run has no PostgreSQL.
    pub(crate) async fn start() -> Option<Self> {
        server()?;
        let told = script(&["start"]).await;
        let (folder, url) = told.trim_end().split_once(' ').unwrap();
        Some(Self {
            folder: folder.to_owned(),
            url: url.to_owned(),
        })
    }

    /// Ends it as a crash would.
    pub(crate) async fn halt(&self) {
        script(&["halt", &self.folder]).await;
    }

    /// Starts it again, after ending it as a crash would if it runs.
    pub(crate) async fn restart(&self) {
        script(&["restart", &self.folder]).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = Command::new(SCRIPT).args(["stop", &self.folder]).status();
        assert!(
            stopped.is_ok_and(|status| status.success()) || std::thread::panicking(),
            "{} is left",
            self.folder
        );
    }
}

async fn script(words: &[&str]) -> String {
    let mut command = tokio::process::Command::new(SCRIPT);
    command.args(words).env("CAMPANILE_TEST_POSTGRES_FSYNC", "on");
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
