//! Downloads from a server in the test: one that behaves, and those that do not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::*;

/// What a server says to one request.
struct Reply {
    /// Status line and headers, without the empty line.
    head: String,
    body: Vec<u8>,
}

impl Reply {
    /// The file from that byte on, as a server with ranges sends it.
    fn from(file: &[u8], start: Option<usize>) -> Self {
        let rest = &file[start.unwrap_or(0)..];
        let status = match start {
            None => "HTTP/1.1 200 OK".into(),
            Some(start) => {
                let (last, length) = (file.len() - 1, file.len());
                format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{last}/{length}")
            }
        };
        Self { head: format!("{status}\r\nContent-Length: {}", rest.len()), body: rest.to_vec() }
    }

    /// The same, but the connection breaks after so many bytes.
    fn broken_after(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    fn status(status: &str) -> Self {
        Self { head: format!("HTTP/1.1 {status}\r\nContent-Length: 0"), body: Vec::new() }
    }
}

/// A server on this machine until it is dropped.
struct Server {
    base: String,
    /// First byte that each request asked for.
    asked: Arc<Mutex<Vec<Option<usize>>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` sees the number of the request, from 0, its path, and the first byte that it asks for.
    fn new(answer: impl Fn(usize, &str, Option<usize>) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let (asked, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stop) = (asked.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let Some((path, start)) = request(&mut stream) else { continue };
                let number = log.lock().unwrap().len();
                log.lock().unwrap().push(start);
                let reply = answer(number, &path, start);
                let _ = stream.write_all(format!("{}\r\nConnection: close\r\n\r\n", reply.head).as_bytes());
                let _ = stream.write_all(&reply.body);
            }
        });
        Self { base, asked, is_over, thread: Some(thread) }
    }

    /// A server that sends this file as it should.
    fn of(file: Vec<u8>) -> Self {
        Self::new(move |_, _, start| Reply::from(&file, start))
    }

    fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.base.trim_start_matches("http://").trim_end_matches('/'));
        let _ = self.thread.take().unwrap().join();
    }
}

/// Path and first byte of a request.
fn request(stream: &mut TcpStream) -> Option<(String, Option<usize>)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let path = head.split(' ').nth(1)?.to_owned();
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    Some((path, range.map(|range| range.trim_end_matches('-').parse().unwrap())))
}

fn file() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect()
}

fn checksums(bytes: &[u8]) -> Checksums {
    Checksums { md5: hex::encode(md5::Md5::digest(bytes)), sha256: hex::encode(Sha256::digest(bytes)) }
}

/// A set of one file on that server.
fn set(server: &Server, file: &[u8]) -> Collection {
    let (url, bytes) = (format!("{}a.bin", server.base), file.len() as u64);
    let remote = Remote { url, name: "a.bin", bytes, checksums: checksums(file), members: Vec::new() };
    Collection { name: "set", kind: "idx", files: vec![remote] }
}

fn get(set: &Collection, dir: &Path) -> Result<Fetched, FetchError> {
    fetch(set, dir, &Http::direct(), &mut |_, _, _| ())
}

/// Leaves a partial file as an interrupted download does.
fn leave_part(dir: &Path, bytes: &[u8]) {
    fs::create_dir_all(dir.join("set.partial")).unwrap();
    fs::write(dir.join("set.partial/a.bin.part"), bytes).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_second_run_asks_nobody() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let server = Server::of(file.clone());
    let mut seen = Vec::new();
    let fetched = fetch(&set(&server, &file), dir.path(), &Http::direct(), &mut |name, done, all| {
        seen.push((name == "a.bin", done, all))
    });
    let folder = dir.path().join("set");
    assert_eq!(fetched.unwrap(), Fetched { folder: folder.clone(), downloaded_bytes: 300_000 });
    assert_eq!((fs::read(folder.join("a.bin")).unwrap(), names(&folder)), (file.clone(), vec!["a.bin".into()]));
    assert_eq!(names(dir.path()), ["set"]);
    assert_eq!((seen.first(), seen.last()), (Some(&(true, 0, 300_000)), Some(&(true, 300_000, 300_000))));
    assert_eq!(get(&set(&server, &file), dir.path()).unwrap(), Fetched { folder: folder.clone(), downloaded_bytes: 0 });
    assert_eq!(server.asked(), [None]);
    fs::write(folder.join("a.bin"), "short").unwrap();
    let text = get(&set(&server, &file), dir.path()).unwrap_err().to_string();
    assert!(text.contains("set is there but lacks a.bin; move it away"), "{text}");
}

#[test]
fn what_lies_there_is_not_asked_for_again() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let server = Server::of(file.clone());
    leave_part(dir.path(), &file[..123_456]);
    assert_eq!(get(&set(&server, &file), dir.path()).unwrap().downloaded_bytes, 300_000 - 123_456);
    assert_eq!(server.asked(), [Some(123_456)]);
    assert_eq!(fs::read(dir.path().join("set/a.bin")).unwrap(), file);
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let whole = file.clone();
    let server = Server::new(move |_, _, _| Reply::from(&whole, None));
    leave_part(dir.path(), &[7; 200_000]);
    get(&set(&server, &file), dir.path()).unwrap();
    assert_eq!(server.asked(), [Some(200_000)]);
    assert_eq!(fs::read(dir.path().join("set/a.bin")).unwrap(), file);
}

#[test]
fn a_server_that_breaks_off_is_asked_for_the_rest() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let whole = file.clone();
    // More interruptions than attempts: each brings something, so none counts against the server.
    let server = Server::new(move |_, _, start| Reply::from(&whole, start).broken_after(50_000));
    get(&set(&server, &file), dir.path()).unwrap();
    assert_eq!(server.asked(), [None, Some(50_000), Some(100_000), Some(150_000), Some(200_000), Some(250_000)]);
    assert_eq!(fs::read(dir.path().join("set/a.bin")).unwrap(), file);
}

#[test]
fn a_server_that_brings_nothing_is_given_up_and_what_came_stays() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let whole = file.clone();
    let server = Server::new(move |number, _, start| {
        Reply::from(&whole, start).broken_after(if number == 0 { 90_000 } else { 0 })
    });
    let text = get(&set(&server, &file), dir.path()).unwrap_err().to_string();
    assert!(text.contains("/a.bin: ") && text.contains("it goes on where it stopped"), "{text}");
    assert_eq!(server.asked(), [None, Some(90_000), Some(90_000), Some(90_000)]);
    drop(server);
    let server = Server::of(file.clone());
    assert_eq!(get(&set(&server, &file), dir.path()).unwrap().downloaded_bytes, 210_000);
    assert_eq!(server.asked(), [Some(90_000)]);
}

#[test]
fn a_wrong_file_is_kept_aside_and_never_used() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let mut forged = file.clone();
    forged[5] ^= 1;
    let server = Server::of(forged.clone());
    let text = get(&set(&server, &file), dir.path()).unwrap_err().to_string();
    assert!(text.contains("its MD5 is") && text.contains("set.partial/a.bin.bad"), "{text}");
    assert_eq!(fs::read(dir.path().join("set.partial/a.bin.bad")).unwrap(), forged);
    assert!(!dir.path().join("set").exists());
    drop(server);
    let server = Server::of(file.clone());
    get(&set(&server, &file), dir.path()).unwrap();
    assert_eq!(server.asked(), [None], "nothing of the wrong file is built upon");
    assert_eq!(fs::read(dir.path().join("set/a.bin")).unwrap(), file);
}

#[test]
fn lying_servers_are_named() {
    let file = file();
    type Lie = (&'static str, fn(&[u8]) -> Reply);
    let lies: [Lie; 5] = [
        ("its size is 300001, expected 300000", |file| Reply::from(&[file, &[0]].concat(), None)),
        ("its size is 10, expected 300000", |file| Reply::from(&file[..10], None)),
        ("its range is \"bytes 0-299999/300000\", expected bytes 5-299999/300000", |file| Reply::from(file, Some(0))),
        ("its size is more than 300000", |file| {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked".into();
            let body = [format!("{:x}\r\n", file.len() + 9).as_bytes(), file, &[0; 9], b"\r\n0\r\n\r\n"].concat();
            Reply { head, body }
        }),
        ("answered with HTTP status 404", |_| Reply::status("404 Not Found")),
    ];
    for (words, lie) in lies {
        let (dir, sent) = (tempfile::tempdir().unwrap(), file.clone());
        let server = Server::new(move |_, _, _| lie(&sent));
        leave_part(dir.path(), &file[..5]);
        let text = get(&set(&server, &file), dir.path()).unwrap_err().to_string();
        assert!(text.contains(words), "{text}\nexpected {words}");
        assert_eq!(server.asked().len(), 1, "a lie is not asked for twice");
    }
}

#[test]
fn busy_servers_are_asked_again_and_short_ones_anew() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let whole = file.clone();
    let server = Server::new(move |number, _, start| match number {
        0 => Reply::status("503 Service Unavailable"),
        1 => Reply::status("416 Range Not Satisfiable"),
        _ => Reply::from(&whole, start),
    });
    leave_part(dir.path(), &[1; 99]);
    get(&set(&server, &file), dir.path()).unwrap();
    assert_eq!(server.asked(), [Some(99), Some(99), None]);
}

#[test]
fn without_a_network_that_is_what_is_said() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let server = Server::of(Vec::new());
    let set = set(&server, &file);
    drop(server);
    let text = get(&set, dir.path()).unwrap_err().to_string();
    assert!(text.contains("no data from http://127.0.0.1:") && text.contains("check the network"), "{text}");
}

#[test]
fn two_at_once_do_not_mix() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let server = Server::of(file.clone());
    leave_part(dir.path(), &[]);
    let lock = File::create(dir.path().join("set.partial/lock")).unwrap();
    lock.lock().unwrap();
    let text = get(&set(&server, &file), dir.path()).unwrap_err().to_string();
    assert!(text.contains("another download is at work"), "{text}");
    drop(lock);
    get(&set(&server, &file), dir.path()).unwrap();
}

const MEMBERS: [Member; 2] = [
    Member { path: "in/one.bin", name: "one.bin", bytes: 3 },
    Member { path: "in/two.bin", name: "two.bin", bytes: 5 },
];

/// A compressed archive of these files; a path is taken as it is, whatever it says.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn archive_set(server: &Server, file: &[u8]) -> Collection {
    let mut set = set(server, file);
    set.files[0].members = MEMBERS.to_vec();
    set
}

#[test]
fn of_an_archive_only_what_is_known_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("evil");
    let file = archive(&[
        ("in/readme.html", b"hello"),
        ("../../evil", b"x"),
        (outside.to_str().unwrap(), b"x"),
        ("in/two.bin", b"22222"),
        ("in/one.bin", b"111"),
    ]);
    let server = Server::of(file.clone());
    let inner = dir.path().join("a/b");
    get(&archive_set(&server, &file), &inner).unwrap();
    assert_eq!(names(&inner.join("set")), ["one.bin", "two.bin"]);
    assert_eq!(fs::read(inner.join("set/two.bin")).unwrap(), b"22222");
    assert!(!outside.exists() && names(&inner) == ["set"]);
    assert_eq!(get(&archive_set(&server, &file), &inner).unwrap().downloaded_bytes, 0);
}

#[test]
fn an_archive_that_was_unpacked_is_not_downloaded_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = archive(&[("in/one.bin", b"111"), ("in/two.bin", b"22222")]);
    let server = Server::of(file.clone());
    leave_part(dir.path(), &[]);
    fs::write(dir.path().join("set.partial/one.bin"), "111").unwrap();
    fs::write(dir.path().join("set.partial/two.bin"), "22222").unwrap();
    get(&archive_set(&server, &file), dir.path()).unwrap();
    assert!(server.asked().is_empty());
}

#[test]
fn odd_archives_are_named_with_the_reason() {
    let zeros = vec![0; 17 << 20];
    for (files, words) in [
        (vec![("in/one.bin", &b"111"[..])], "in/two.bin is not in it"),
        (vec![("in/one.bin", b"111"), ("in/one.bin", b"111")], "in/one.bin is in it twice"),
        (vec![("in/one.bin", b"1111")], "in/one.bin is a Regular of 4 bytes, expected a file of 3"),
        (vec![("in/zeros", &zeros), ("in/one.bin", b"111"), ("in/two.bin", b"22222")], "it is damaged"),
    ] {
        let (dir, file) = (tempfile::tempdir().unwrap(), archive(&files));
        let server = Server::of(file.clone());
        let text = get(&archive_set(&server, &file), dir.path()).unwrap_err().to_string();
        assert!(text.contains(words), "{text}\nexpected {words}");
        assert!(!dir.path().join("set").exists());
    }
    let (dir, file) = (tempfile::tempdir().unwrap(), b"no archive at all".to_vec());
    let server = Server::of(file.clone());
    let text = get(&archive_set(&server, &file), dir.path()).unwrap_err().to_string();
    assert!(text.contains("a.bin: it is damaged"), "{text}");
}

#[test]
fn too_small_a_disk_is_said_before_anything_is_asked() {
    let (dir, file) = (tempfile::tempdir().unwrap(), file());
    let server = Server::of(file.clone());
    let mut set = set(&server, &file);
    set.files[0].bytes = u64::MAX / 4;
    let text = get(&set, dir.path()).unwrap_err().to_string();
    assert!(text.contains("bytes free, 4611686018427387903 are needed"), "{text}");
    assert!(server.asked().is_empty());
}
