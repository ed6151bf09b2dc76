//! Certificates and keys in PEM files, which are read within bounds.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{bounded, hide};

/// The most that such a file has, in bytes: all authorities of a machine take a quarter of a megabyte.
const MAX_PEM: u64 = 4 << 20;

fn invalid(error: pem::Error) -> Error {
    Error::new(ErrorKind::InvalidData, error.to_string())
}

/// The certificates of a file.
///
/// # Errors
/// Those of reading, and `InvalidData` for what is none.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = bounded::bytes(path, MAX_PEM)?;
    CertificateDer::pem_slice_iter(&text).collect::<std::result::Result<_, _>>().map_err(invalid)
}

/// The private key of a file.
///
/// # Errors
/// As [`chain`].
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    hide::memory();
    PrivateKeyDer::from_pem_slice(&bounded::bytes(path, MAX_PEM)?).map_err(invalid)
}

/// Those that this machine trusts, or the ones of SSL_CERT_FILE and SSL_CERT_DIR instead. What cannot be read is left out.
///
/// # Errors
/// `InvalidData` where SSL_CERT_FILE names something that never ends.
pub fn trusted() -> Result<Vec<CertificateDer<'static>>> {
    if let Some(file) = std::env::var_os("SSL_CERT_FILE")
        && let Err(e) = bounded::bytes(Path::new(&file), MAX_PEM)
        && e.kind() == ErrorKind::InvalidData
    {
        return Err(Error::new(e.kind(), format!("SSL_CERT_FILE names {}: {e}", Path::new(&file).display())));
    }
    Ok(rustls_native_certs::load_native_certs().certs)
}
