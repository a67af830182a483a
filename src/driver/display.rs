//! A display for a browser that has no headless mode: an Xvfb of its own, owned like any other process.
//!
//! Each instance has one: what ends or hangs it loses one browser and no other, and it goes with its instance without
//! anybody counting who still uses it. It costs a tenth of a second and some 50 MB.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::{fs::OpenOptionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

use tokio::time::{Instant, timeout_at};

use super::{
    DriverError, Drivers,
    process::{Order, Process, Watch},
    recipe::on_path,
};

const PROGRAM: &str = "Xvfb";
const INSTALL: &str = "install Xvfb (Debian: apt-get install xvfb), or name a display of yours as `display` in the configuration";

/// Harness pages show nothing; some toolkits refuse a screen of fewer colours.
const SCREEN: &str = "1280x800x24";

/// Where X servers keep their sockets, whatever `TMPDIR` says; a killed one leaves its own.
const SOCKETS: &str = "/tmp/.X11-unix";

/// Notes the display's number for whoever sweeps after us.
const NOTE: &str = "display";

/// The one method of access that every X client knows.
const METHOD: &[u8] = b"MIT-MAGIC-COOKIE-1";

pub(super) struct Display {
    process: Process,
    number: u32,
    cookie: PathBuf,
}

impl Display {
    pub(super) async fn start(
        product: &str,
        drivers: &Drivers,
        name: &str,
        deadline: Instant,
    ) -> Result<Self, DriverError> {
        let started = Instant::now();
        let none = |hint: String| DriverError::NoDisplay { product: product.to_owned(), hint };
        let program = on_path(PROGRAM, &drivers.places.path).ok_or_else(|| none(INSTALL.to_owned()))?;
        let refused = |source| DriverError::Spawn { program: PROGRAM.to_owned(), source };
        let folders = drivers.run.folders(&format!("{name}-display"));
        let folders = folders.map_err(|error| refused(io::Error::other(error)))?;
        let (cookie, note) = (folders.own.join("cookie"), folders.own.join(NOTE));
        write_cookie(&cookie).map_err(refused)?;
        let mut args: Vec<OsString> =
            ["-displayfd", "2", "-screen", "0", SCREEN, "-nolisten", "tcp", "-noreset", "-auth"]
                .map(OsString::from)
                .to_vec();
        args.push(cookie.clone().into());
        let order = Order {
            program: &program,
            args,
            variables: vec![("HOME", folders.own.clone().into())],
            folders,
            announcement: "\0",
            noise: "\0",
        };
        let process = Process::spawn(&drivers.tasks, &drivers.run, order)?;
        let watch = process.watch().clone();
        let Ok(number) = timeout_at(deadline, watch.said(|line| line.parse::<u32>().ok())).await else {
            process.end().await;
            let waited_ms = started.elapsed().as_millis();
            return Err(DriverError::Connect {
                program: PROGRAM.to_owned(),
                waited_ms,
                last_lines: watch.last_lines(),
            });
        };
        let Some(number) = number else {
            process.end().await;
            return Err(DriverError::Launch {
                program: PROGRAM.to_owned(),
                status: watch.status(),
                last_lines: watch.last_lines(),
            });
        };
        if let Err(error) = fs::write(&note, number.to_string()) {
            tracing::warn!(%error, "a display that is killed with us would leave its socket");
        }
        drivers.tasks.spawn("display", async move {
            watch.ended().await;
            clear(Path::new(SOCKETS), number);
        });
        Ok(Self { process, number, cookie })
    }

    /// What makes a program show itself there.
    pub(super) fn environment(&self) -> [(&'static str, OsString); 2] {
        [("DISPLAY", format!(":{}", self.number).into()), ("XAUTHORITY", self.cookie.clone().into())]
    }

    pub(super) fn watch(&self) -> &Watch {
        self.process.watch()
    }

    pub(super) async fn end(self) {
        self.process.end().await;
        clear(Path::new(SOCKETS), self.number);
    }
}

/// Lets in who can read the file: other users of the machine cannot look at the display or type there.
fn write_cookie(path: &Path) -> io::Result<()> {
    let secret: [u8; 16] = rand::random();
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    // Of any family, with no address and no display of its own: it is for the only server that has it.
    let mut entry = vec![0xff, 0xff, 0, 0, 0, 0];
    for part in [METHOD, &secret] {
        entry.extend(u16::try_from(part.len()).expect("both are short").to_be_bytes());
        entry.extend(part);
    }
    file.write_all(&entry)
}

/// Removes what the displays of a swept run left outside of it.
pub(super) fn clear_after(run_dir: &Path) {
    for entry in fs::read_dir(run_dir).into_iter().flatten().flatten() {
        let note = fs::read_to_string(entry.path().join(NOTE)).unwrap_or_default();
        if let Ok(number) = note.parse() {
            clear(Path::new(SOCKETS), number);
        }
    }
}

/// Removes the socket of a display whose process is gone; one at which a server answers is another's by now.
fn clear(sockets: &Path, number: u32) {
    let socket = sockets.join(format!("X{number}"));
    let dead = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if UnixStream::connect(&socket).is_err_and(|error| dead(&error))
        && let Err(error) = fs::remove_file(&socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %socket.display(), %error, "left by a display");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_display_s_socket_goes() {
        let sockets = tempfile::tempdir().unwrap();
        let place = |number: u32| sockets.path().join(format!("X{number}"));
        drop(std::os::unix::net::UnixListener::bind(place(7)).unwrap());
        let _another = std::os::unix::net::UnixListener::bind(place(8)).unwrap();
        assert!(place(7).exists(), "a listener that ends leaves its socket");
        for number in [7, 8, 9] {
            clear(sockets.path(), number);
        }
        assert_eq!((place(7).exists(), place(8).exists()), (false, true));
    }

    #[test]
    fn a_cookie_is_whole_and_secret() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        write_cookie(&one).unwrap();
        write_cookie(&two).unwrap();
        let bytes = fs::read(&one).unwrap();
        assert_eq!(bytes.len(), 6 + 2 + METHOD.len() + 2 + 16);
        assert_ne!(bytes, fs::read(&two).unwrap());
        assert_eq!(fs::metadata(&one).unwrap().mode() & 0o777, 0o600);
    }
}
