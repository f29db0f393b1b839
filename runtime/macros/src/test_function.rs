//! `#[rekernel::test]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, Parser};
use syn::{Error, ItemFn};

use crate::signature;

/// The macro without the compiler around it, so that it can be tested.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(
            arguments,
            "#[rekernel::test] takes no arguments",
        ));
    }
    let function: ItemFn = Parser::parse2(ItemFn::parse, item)?;
    signature::check(&function.sig, "a test", "make what it needs inside")?;
    for attribute in &function.attrs {
        for (name, instead) in UNSUPPORTED {
            if attribute.path().is_ident(name) {
                return Err(Error::new_spanned(attribute, instead));
            }
        }
    }
    let name = &function.sig.ident;
    Ok(quote! {
        #[cfg(test)]
        #function

        #[cfg(test)]
        const _: () = {
            fn rekernel_test() -> ::rekernel::testing::Running {
                ::rekernel::testing::running(#name())
            }
            ::rekernel::testing::register!(
                ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)),
                rekernel_test
            );
        };
    })
}

/// Attributes that stand beside `#[test]`, and what to do without them.
const UNSUPPORTED: [(&str, &str); 3] = [
    (
        "should_panic",
        "a panic ends the guest, so a test cannot expect one: return an error from what is tested",
    ),
    (
        "ignore",
        "#[ignore] is not supported: choose tests by their names, `cargo rekernel test NAME`",
    ),
    ("test", "#[rekernel::test] stands alone, without #[test]"),
];

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::expand;

    fn error(arguments: proc_macro2::TokenStream, item: proc_macro2::TokenStream) -> String {
        expand(arguments, item)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_test_is_compiled_and_registered_in_tests_only() {
        let item = quote!(
            async fn serves() -> Result<(), Error> {
                serve().await
            }
        );
        let expanded = expand(quote!(), item).expect("a test").to_string();
        assert!(expanded.starts_with("# [cfg (test)] async fn serves ()"));
        assert!(expanded.contains("# [cfg (test)] const _"));
        assert!(expanded.contains("running (serves ())"));
        assert!(expanded.contains("stringify ! (serves)"));
    }

    #[test]
    fn what_a_test_cannot_be_is_said() {
        let plain = || {
            quote!(
                async fn works() {}
            )
        };
        assert!(error(quote!(flavour = "x"), plain()).contains("takes no arguments"));
        assert!(
            error(
                quote!(),
                quote!(
                    fn works() {}
                )
            )
            .contains("`async fn works()`: `async`")
        );
        assert!(
            error(
                quote!(),
                quote!(
                    async fn works(x: u8) {}
                )
            )
            .contains("a test takes no arg")
        );
        assert!(
            error(
                quote!(),
                quote!(
                    async fn works<T>() {}
                )
            )
            .contains("generic")
        );
    }

    #[test]
    fn attributes_without_meaning_here_are_refused() {
        for (attribute, words) in [
            (quote!(#[should_panic]), "a panic ends the guest"),
            (quote!(#[ignore = "slow"]), "cargo rekernel test NAME"),
            (quote!(#[test]), "stands alone"),
        ] {
            let said = error(quote!(), quote!(#attribute async fn works() {}));
            assert!(said.contains(words), "{said}");
        }
    }
}
