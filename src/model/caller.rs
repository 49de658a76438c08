//! Who is calling. The app is part of the caller, so nothing that acts for a caller can reach another app.

use serde::{Deserialize, Serialize};

use super::id::{ApiKeyId, AppId};

/// How far an API key reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Everything within its app.
    FullAccess,
    /// Minting tokens for end users, nothing else.
    AuthOnly,
}

/// The authenticated caller of an rpc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The operator of the service.
    Operator,
    /// A back end of an app.
    App {
        /// The app, which every row it may see belongs to.
        app: AppId,
        /// The key it presented.
        key: ApiKeyId,
        /// What the key allows.
        scope: Scope,
    },
    /// Nobody in particular, on an rpc that asks for no credential.
    Public,
}

impl Caller {
    /// The caller's app; the operator and the public have none.
    #[must_use]
    pub const fn app(&self) -> Option<AppId> {
        match self {
            Self::App { app, .. } => Some(*app),
            Self::Operator | Self::Public => None,
        }
    }
}
