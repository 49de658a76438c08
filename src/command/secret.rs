//! The key that encrypts what is stored encrypted: the setting, or with SQLite a file beside the database, made at the
//! first start. Losing it loses what it encrypts.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use campanile::config::Config;
use campanile::domain::SecretKey;

use super::Fault;

const FILE: &str = "secret.key";

/// The secret key of this installation.
pub(super) fn key(config: &Config) -> Result<SecretKey, Fault> {
    if let Some(key) = &config.credentials.secret_key {
        return Ok(key.clone());
    }
    let Some(folder) = config.database.folder() else {
        return Err(Fault::Usage("secret_key must be set with PostgreSQL".to_owned()));
    };
    let path = folder.join(FILE);
    let fault = |fault| Fault::System(format!("{} cannot be used", path.display()), fault);
    fs::create_dir_all(&folder).map_err(fault)?;
    match fs::read_to_string(&path) {
        Ok(text) => SecretKey::from_base64(&text).map_err(|rule| Fault::Usage(format!("{} {rule}", path.display()))),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let key = SecretKey::generate()?;
            create(&path, &key.reveal()).map_err(fault)?;
            Ok(key)
        }
        Err(other) => Err(fault(other)),
    }
}

/// Writes the file for nobody but its owner; whole, or not at all.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("key.new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    // A link instead of a rename: it fails when another process was faster, whose key then counts.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    linked
}
