//! What the functions under both attributes have in common.

use syn::{Error, Result, Signature};

/// Checks that `signature` is `async fn name()`. `what` says what the function is, as the
/// subject of a sentence; `instead` where else to get what an argument would bring.
pub(crate) fn check(signature: &Signature, what: &str, instead: &str) -> Result<()> {
    if signature.asyncness.is_none() {
        return Err(Error::new_spanned(
            signature.fn_token,
            format!(
                "{what} is `async fn {}()`: `async` is missing",
                signature.ident
            ),
        ));
    }
    if let Some(argument) = signature.inputs.first() {
        return Err(Error::new_spanned(
            argument,
            format!("{what} takes no argument; {instead}"),
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            format!("{what} cannot be generic"),
        ));
    }
    Ok(())
}
