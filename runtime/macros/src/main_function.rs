//! `#[rekernel::main]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Ident, ItemFn, LitStr, Token, bracketed};

use crate::signature;

/// The macro without the compiler around it, so that it can be tested.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let Keys(keys) = syn::parse2(arguments)?;
    let function: ItemFn = Parser::parse2(ItemFn::parse, item)?;
    signature::check(
        &function.sig,
        "the main function of a guest",
        "read the command line with `rekernel::config::value`",
    )?;
    let name = &function.sig.ident;
    Ok(quote! {
        // A guest built for tests does not run it.
        #[cfg_attr(test, allow(dead_code))]
        #function

        const _: () = {
            #[cfg(not(test))]
            fn rekernel_entry(boot: &'static ::rekernel::start::BootInfo) -> ! {
                ::rekernel::start::run(boot, &[#(#keys),*], #name)
            }
            #[cfg(test)]
            fn rekernel_entry(boot: &'static ::rekernel::start::BootInfo) -> ! {
                ::rekernel::start::run(
                    boot,
                    &[#(#keys,)* ::rekernel::testing::KEY],
                    ::rekernel::testing::main,
                )
            }
            ::rekernel::start::entry!(rekernel_entry);
        };
    })
}

/// The attribute's arguments: nothing, or `keys = ["name", ..]`.
struct Keys(Vec<LitStr>);

impl Parse for Keys {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let argument: Ident = input.parse()?;
        if argument != "keys" {
            return Err(syn::Error::new(
                argument.span(),
                format!("unknown argument `{argument}`; the only one is `keys = [\"name\", ..]`"),
            ));
        }
        input.parse::<Token![=]>()?;
        let list;
        bracketed!(list in input);
        let keys = Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?;
        input.parse::<Option<Token![,]>>()?;
        if !input.is_empty() {
            return Err(input.error("nothing may follow the list of keys"));
        }
        for key in &keys {
            check_key(key)?;
        }
        Ok(Self(keys.into_iter().collect()))
    }
}

/// A key stands before `=` in a command line that is split at blanks.
fn check_key(key: &LitStr) -> syn::Result<()> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let text = key.value();
    if text.is_empty() || !text.chars().all(allowed) {
        return Err(syn::Error::new(
            key.span(),
            format!("key {text:?} must be letters, digits, `-`, `_` or `.`"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::expand;
    use quote::quote;

    fn error(arguments: proc_macro2::TokenStream, item: proc_macro2::TokenStream) -> String {
        expand(arguments, item)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn keeps_the_function_and_adds_the_entry() {
        let expanded = expand(
            quote!(),
            quote!(
                async fn main() {
                    serve().await
                }
            ),
        )
        .expect("a plain main")
        .to_string();
        assert!(expanded.contains("async fn main () { serve () . await }"));
        assert!(expanded.contains(":: rekernel :: start :: run (boot , & [] , main)"));
        assert!(expanded.contains("entry ! (rekernel_entry)"));
    }

    #[test]
    fn passes_the_keys_on() {
        let item = quote!(
            async fn main() -> Result<(), Error> {}
        );
        let expanded = expand(quote!(keys = ["port", "log-file",]), item)
            .expect("two keys")
            .to_string();
        assert!(expanded.contains(r#"& ["port" , "log-file"]"#));
    }

    #[test]
    fn refuses_what_cannot_be_a_main() {
        assert!(
            error(
                quote!(),
                quote!(
                    fn main() {}
                )
            )
            .contains("`async` is missing")
        );
        assert!(
            error(
                quote!(),
                quote!(
                    async fn main(x: u8) {}
                )
            )
            .contains("no argument")
        );
        assert!(
            error(
                quote!(),
                quote!(
                    async fn main<T>() {}
                )
            )
            .contains("generic")
        );
        assert!(
            error(
                quote!(),
                quote!(
                    struct Main;
                )
            )
            .contains("expected")
        );
    }

    #[test]
    fn refuses_other_arguments() {
        let main = || {
            quote!(
                async fn main() {}
            )
        };
        assert!(error(quote!(stack = 4), main()).contains("unknown argument `stack`"));
        assert!(error(quote!(keys = "port"), main()).contains("expected square brackets"));
        assert!(error(quote!(keys = ["po rt"]), main()).contains("\"po rt\" must be letters"));
        assert!(error(quote!(keys = [""]), main()).contains("must be letters"));
        assert!(error(quote!(keys = ["port"] 7), main()).contains("nothing may follow"));
    }
}
