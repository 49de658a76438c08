//! The service's secret key, and what it encrypts with it. It never prints the key and never stores it.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::model::{Error, Result};

const KEY_BYTES: usize = 32;

/// The key from which the keys of all ciphers are made: 32 random bytes, equal on all nodes of a service.
#[derive(Clone)]
pub struct SecretKey([u8; KEY_BYTES]);

impl SecretKey {
    /// The key in standard base64, as the setting has it; surrounding white space is not part of it.
    ///
    /// # Errors
    /// The rule, when it is not base64 of exactly 32 bytes.
    pub fn from_base64(text: &str) -> std::result::Result<Self, &'static str> {
        STANDARD
            .decode(text.trim())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or("must be 32 random bytes in base64, such as `openssl rand -base64 32` prints")
    }

    /// A new key.
    ///
    /// # Errors
    /// Internal, when the system gives no random bytes.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes).map_err(fault)?;
        Ok(Self(bytes))
    }

    /// The key in base64, for the file that keeps it.
    #[must_use]
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// A cipher for one purpose, whose key is of no use for another.
    ///
    /// # Errors
    /// Internal, when the library refuses the key.
    pub fn cipher(&self, purpose: &str) -> Result<Cipher> {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), purpose.as_bytes());
        RandomizedNonceKey::new(&AES_256_GCM, key.as_ref())
            .map(Cipher)
            .map_err(fault)
    }

    /// A signer for one purpose, whose signatures are worth nothing for another.
    #[must_use]
    pub fn signer(&self, purpose: &str) -> Signer {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), purpose.as_bytes());
        Signer(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }
}

/// HMAC-SHA-256: nobody without the key can make or change what it has signed.
pub struct Signer(hmac::Key);

impl Signer {
    /// The signature of these bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, bytes).as_ref().to_vec()
    }

    /// Whether this is their signature, found out in a time that tells nothing.
    #[must_use]
    pub fn is_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.0, bytes, signature).is_ok()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

/// AES-256-GCM: what it seals can be neither read nor changed nor moved to another place without the key.
pub struct Cipher(RandomizedNonceKey);

impl Cipher {
    /// Encrypts, bound to the place where the result will stand. A random nonce goes first.
    ///
    /// # Errors
    /// Internal, when the library fails.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(place), &mut sealed)
            .map_err(fault)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Decrypts what was sealed for this place.
    ///
    /// # Errors
    /// Internal, when it was sealed with another key or for another place, or was changed.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(Unspecified).map_err(fault)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(fault)?;
        let mut body = body.to_vec();
        let plain = self
            .0
            .open_in_place(nonce, Aad::from(place), &mut body)
            .map_err(fault)?;
        Ok(plain.to_vec())
    }
}

fn fault(_: Unspecified) -> Error {
    Error::internal("a stored secret cannot be sealed or opened; was the secret key changed?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_its_key_at_its_place() {
        let cipher = SecretKey::generate().unwrap().cipher("test").unwrap();
        let mut sealed = cipher.seal(b"here", b"hello").unwrap();
        assert_eq!(cipher.open(b"here", &sealed).unwrap(), b"hello");
        assert!(cipher.open(b"there", &sealed).is_err());
        let other = SecretKey::generate().unwrap();
        assert!(other.cipher("test").unwrap().open(b"here", &sealed).is_err());
        *sealed.last_mut().unwrap() ^= 1;
        assert!(cipher.open(b"here", &sealed).is_err());
        assert!(cipher.open(b"here", b"short").is_err());
    }

    #[test]
    fn one_key_gives_different_ciphers_for_different_purposes() {
        let key = SecretKey::generate().unwrap();
        let sealed = key.cipher("one").unwrap().seal(b"", b"hello").unwrap();
        assert!(key.cipher("two").unwrap().open(b"", &sealed).is_err());
        assert!(key.cipher("one").unwrap().open(b"", &sealed).is_ok());
    }

    #[test]
    fn a_signature_is_good_for_its_bytes_its_purpose_and_its_key_alone() {
        let key = SecretKey::generate().unwrap();
        let signature = key.signer("one").sign(b"hello");
        assert!(key.signer("one").is_signed(b"hello", &signature));
        assert!(!key.signer("one").is_signed(b"hallo", &signature));
        assert!(!key.signer("two").is_signed(b"hello", &signature));
        assert!(
            !SecretKey::generate()
                .unwrap()
                .signer("one")
                .is_signed(b"hello", &signature)
        );
        assert!(!key.signer("one").is_signed(b"hello", b""));
    }

    #[test]
    fn a_key_is_read_back_from_its_base64_and_never_printed() {
        let key = SecretKey::generate().unwrap();
        let text = format!("{}\n", key.reveal());
        assert_eq!(SecretKey::from_base64(&text).unwrap().0, key.0);
        assert_eq!(format!("{key:?}"), "SecretKey(hidden)");
        assert!(SecretKey::from_base64("").is_err());
        assert!(SecretKey::from_base64("c2hvcnQ=").is_err());
    }
}
