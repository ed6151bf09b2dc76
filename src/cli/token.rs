//! `orx token`

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::OutputFormat;
use super::context::Context;
use super::job_options::at_least_a_second;
use super::ui;
use super::view::line;
use crate::error::{Error, Result};
use crate::ops::Scopes;
use crate::ops::tokens::{CreateToken, ListTokens, RevokeToken, Token as Secret};
use crate::time::Span;

/// No file with a token is longer, in bytes.
const MAX_TOKEN: u64 = 1024;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx token create --admin                           the first one, on the store itself
  orx token create --name ci --scope submit,exec,read --tenant web --expires 90d
  orx token revoke ci")]
pub(super) struct Token {
    #[command(subcommand)]
    command: TokenSubcommand,
}

#[derive(Subcommand)]
enum TokenSubcommand {
    /// Make a token; it is printed once, and nobody can print it again
    #[command(after_help = "\
Examples:
  ORX_TOKEN=$(orx token create --name build-1 --scope work)
  orx token create --name ops --admin --from token      the same token at another node of a cluster")]
    Create(Create),
    /// List the tokens, without their secrets
    #[command(visible_alias = "ls", after_help = "Example:\n  orx token list")]
    List,
    /// End a token at once
    #[command(after_help = "Example:\n  orx token revoke ci")]
    Revoke {
        /// Its name or id
        #[arg(id = "which", value_name = "TOKEN")]
        token: String,
    },
}

#[derive(Args)]
struct Create {
    /// What to call it [default: the last 12 digits of its id]
    #[arg(long)]
    name: Option<String>,

    /// What it may do: read, submit (handlers), exec (commands), operate (cancel, retry, pause), work (as a worker), admin
    #[arg(long, value_name = "A,B", required_unless_present = "admin")]
    scope: Option<Scopes>,

    /// It may do everything
    #[arg(long, conflicts_with = "scope")]
    admin: bool,

    /// It may touch this tenant only [default: all]
    #[arg(long)]
    tenant: Option<String>,

    /// Take a token that another node of a cluster made, from a file or standard input (-): it is good at both
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// How long it is worth something [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = at_least_a_second)]
    expires: Option<Span>,
}

impl Token {
    pub(super) fn makes_store(&self) -> bool {
        matches!(self.command, TokenSubcommand::Create(_))
    }

    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        match self.command {
            TokenSubcommand::Create(create) => create.run(context).await?,
            TokenSubcommand::List => {
                let tokens = context.queue()?.call(ListTokens {}).await?;
                if tokens.is_empty() {
                    ui::note(context, "no token");
                }
                context.view()?.rows(&tokens)?;
            }
            TokenSubcommand::Revoke { token } => {
                let revoked = context.queue()?.call(RevokeToken { token }).await?;
                ui::say(context, &format!("token {} opens nothing any more", revoked.name));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn new_secret() -> Result<Secret> {
    let mut secret = [0; 32];
    rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    Ok(Secret::new(Uuid::now_v7(), secret))
}

/// A token that was made elsewhere.
fn read_secret(file: &Path) -> Result<Secret> {
    let source: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(File::open(file).map_err(|e| Error::usage(format!("cannot read {}", file.display())).source(e))?),
    };
    let mut text = String::new();
    source.take(MAX_TOKEN).read_to_string(&mut text)?;
    text.trim().parse()
}

impl Create {
    async fn run(self, context: &Context) -> Result<()> {
        let token = self.from.as_deref().map_or_else(new_secret, read_secret)?;
        let name = self.name.unwrap_or_else(|| token.id.simple().to_string()[20..].to_owned());
        let scopes = self.scope.unwrap_or(Scopes::ALL);
        let op = CreateToken {
            id: token.id,
            hash: token.hash(),
            name,
            scopes,
            tenant: self.tenant,
            expires_in: self.expires,
        };
        let made = context.queue()?.call(op).await?;
        let view = context.view()?;
        if self.from.is_some() && view.is_for_people() {
            ui::say(context, &format!("token {} is good here too: {}", made.name, made.scopes));
            return Ok(());
        }
        if matches!(view.format(), OutputFormat::Json | OutputFormat::Ndjson) {
            let mut shown = json!(made);
            shown["token"] = json!(token.reveal());
            return view.value(&shown, |_| Ok(()));
        }
        let whose = made.tenant.as_ref().map_or_else(|| "all tenants".into(), |t| format!("tenant {t}"));
        ui::say(context, &format!("token {} for {whose}: {}; it is shown only now", made.name, made.scopes));
        line(&token.reveal())
    }
}
