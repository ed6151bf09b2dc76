//! What every command needs: the settings in force, the queue, the way to print.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::config::Config;
use super::view::View;
use super::{ColorChoice, Globals, files, ui};
use crate::daemon;
use crate::error::{Error, Result};
use crate::hide;
use crate::ops::Caller;
use crate::queue::Queue;
use crate::store::{self, Location};
use crate::time::{Clock, SystemClock};

/// What every command needs.
pub(crate) struct Context {
    pub(super) globals: Globals,
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    /// Whether the command makes a store where there is none. Who only looks makes nothing.
    pub(super) makes_store: bool,
    /// Whether it runs the jobs of the store, so that nobody else is to choose them.
    pub(super) needs_own_store: bool,
    queue: OnceLock<Queue>,
}

impl Context {
    pub(super) fn new(globals: Globals) -> Result<Self> {
        let config = Config::load(globals.config.as_deref())?;
        let clock = Arc::new(SystemClock);
        let context =
            Self { globals, config, clock, makes_store: false, needs_own_store: false, queue: OnceLock::new() };
        context.view()?; // a template that is not understood is refused before anything is done
        Ok(context)
    }

    /// The queue, opened at the first call.
    pub(super) fn queue(&self) -> Result<&Queue> {
        if let Some(queue) = self.queue.get() {
            return Ok(queue);
        }
        let queue = match self.location()? {
            Location::Coordinator(url) => {
                let queue = Queue::connect(&url, self.token()?)?;
                if !self.quiet() {
                    queue.on_trouble(ui::trouble);
                }
                queue
            }
            place => self.opening(place)?()?,
        };
        Ok(self.queue.get_or_init(|| queue))
    }

    /// The same for a process that lives for long: where a server is away it waits, until `end`; none: that came.
    pub(super) async fn queue_in_time(&self, burst: bool, end: impl Future<Output = ()>) -> Result<Option<Queue>> {
        match self.location()? {
            place @ Location::Server(_) => {
                let opened = daemon::open(self.opening(place)?, burst, end).await?;
                Ok(opened.map(|queue| self.queue.get_or_init(|| queue).clone()))
            }
            // A file that cannot be opened is not mended by waiting, and a coordinator is asked later.
            _ => self.queue().cloned().map(Some),
        }
    }

    /// Opens the store at a place that is no coordinator.
    fn opening(&self, place: Location) -> Result<impl Fn() -> Result<Queue> + Clone + Send + 'static> {
        let (schemas, clock, makes) = (self.config.schemas()?, Arc::clone(&self.clock), self.makes_store);
        let needs_own = self.needs_own_store && !self.config.worker.allow_foreign_store.unwrap_or_default();
        Ok(move || {
            let caller = Caller { schemas: schemas.clone(), ..Caller::local(user()) };
            let open = if makes { Queue::open } else { Queue::open_existing };
            let check = || if needs_own { place.check_owners() } else { Ok(()) };
            check()?; // before anything is made
            let queue = open(&place, caller, Arc::clone(&clock))?;
            check().map(|()| queue) // nobody made it meanwhile
        })
    }

    /// The same at another queue.
    pub(super) fn at(&self, queue: Queue) -> Self {
        let (globals, config) = (self.globals.clone(), self.config.clone());
        let (clock, queue) = (Arc::clone(&self.clock), OnceLock::from(queue));
        Self { globals, config, clock, makes_store: false, needs_own_store: false, queue }
    }

    /// Where the queue is: flag, environment, file, default.
    pub(super) fn location(&self) -> Result<Location> {
        self.store_setting()?.0.parse()
    }

    /// The store's place and where that was said.
    pub(super) fn store_setting(&self) -> Result<(String, &'static str)> {
        if let Some(store) = &self.globals.store {
            return Ok((store.clone(), "--store"));
        }
        if let Some(store) = env("ORX_STORE") {
            return Ok((store, "ORX_STORE"));
        }
        if let Some(store) = &self.config.store {
            return Ok((store.clone(), "file"));
        }
        Ok((default_store()?.display().to_string(), "default"))
    }

    /// The token for a coordinator.
    pub(super) fn token(&self) -> Result<Option<String>> {
        if let Some(token) = self.globals.token.clone().or_else(|| env("ORX_TOKEN")) {
            hide::memory();
            return Ok(Some(token));
        }
        let Some(path) = &self.config.token_file else { return Ok(None) };
        hide::memory();
        let text = files::text(path, files::SETTINGS);
        let text = text.map_err(|e| Error::usage(format!("cannot read {}", path.display())).source(e))?;
        Ok(Some(text.trim().to_owned()))
    }

    /// Where the token for a coordinator comes from, if there is one.
    pub(super) fn token_from(&self) -> Option<&'static str> {
        match (&self.globals.token, env("ORX_TOKEN"), &self.config.token_file) {
            (Some(_), _, _) => Some("--token"),
            (None, Some(_), _) => Some("ORX_TOKEN"),
            (None, None, Some(_)) => Some("file"),
            (None, None, None) => None,
        }
    }

    /// The way to print.
    pub(super) fn view(&self) -> Result<View> {
        let format = self.globals.output.or(self.config.output).unwrap_or_default();
        View::new(format, self.globals.format.as_deref(), self.color(), self.clock.now())
    }

    /// The user's wish about colours.
    pub(super) fn color(&self) -> ColorChoice {
        self.manner().color
    }

    /// How errors are printed.
    pub(super) fn manner(&self) -> ui::Manner {
        ui::Manner::of(&self.globals, Some(&self.config))
    }

    /// Whether talk is unwanted.
    pub(super) fn quiet(&self) -> bool {
        self.globals.quiet
    }
}

/// Whether a variable with this value must not be seen by others.
pub(super) fn is_secret(name: &str, value: &str) -> bool {
    match name {
        "ORX_TOKEN" | "PGPASSWORD" => true,
        "ORX_STORE" => store::shown(value) != value, // a password in a URL
        _ => false,
    }
}

/// A variable that is set and not empty.
pub(super) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Who calls, for the audit trail.
pub(super) fn user() -> String {
    env("USER").unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

pub(super) fn directories() -> Result<directories::ProjectDirs> {
    directories::ProjectDirs::from("", "", "orx")
        .ok_or_else(|| Error::failed("no home directory is known").hint("set HOME, or name a place with --store"))
}

/// The home of the user of the shipped units: the store lies right in it, so that whoever is that user finds it.
const SERVICE_HOME: &str = "/var/lib/orx";

fn default_store() -> Result<PathBuf> {
    let base = directories::BaseDirs::new();
    if env("XDG_DATA_HOME").is_none() && base.is_some_and(|base| base.home_dir() == Path::new(SERVICE_HOME)) {
        return Ok(Path::new(SERVICE_HOME).join("orx.db"));
    }
    Ok(directories()?.data_dir().join("orx.db"))
}

/// Where the configuration is unless said otherwise.
pub(super) fn default_config() -> Option<PathBuf> {
    directories().ok().map(|d| d.config_dir().join("config.toml"))
}
