//! JSON of all requests and answers through one erased reader and one erased writer.
//!
//! There are some seventy Ops. Made for each of them and each format anew, the code that reads and writes them was a
//! tenth of the program. What is stored, and what is read by the thousand, does without this.

use erased_serde::Serialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;

/// Writes `value`.
///
/// # Errors
/// When it says so itself.
pub(crate) fn to_vec(value: &dyn Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(128);
    serde_json::to_writer(&mut text, value)?;
    Ok(text)
}

/// Reads a whole text.
///
/// # Errors
/// When it is no JSON, or not that of a `T`.
pub(crate) fn from_slice<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = from(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads one value, without the code for `T` being made for this kind of `reader` too.
///
/// # Errors
/// The reader's, made from the words of the first.
pub(crate) fn from<'de, T: DeserializeOwned, D: Deserializer<'de>>(reader: D) -> Result<T, D::Error> {
    let mut reader = <dyn erased_serde::Deserializer<'_>>::erase(reader);
    erased_serde::deserialize(&mut reader).map_err(serde::de::Error::custom)
}
