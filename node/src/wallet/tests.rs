use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use podl_chain_spec::ChainSpec;

use super::*;

/// Cheap on purpose: what is tested is the file, not the cost.
const CHEAP: KdfCost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };

fn phrase(text: &str) -> Passphrase {
    Passphrase::new(text)
}

fn new_wallet(path: &Path) -> Wallet {
    let wallet = Wallet::generate().unwrap();
    create(path, &wallet, &phrase("correct horse"), CHEAP).unwrap();
    wallet
}

#[test]
fn a_wallet_opens_with_its_passphrase_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/w.json");
    let wallet = new_wallet(&path);
    assert_eq!(open(&path, &phrase("correct horse")).unwrap().account(), wallet.account());
    assert_eq!(Keystore::read(&path).unwrap().address, wallet.account());
    let wrong = open(&path, &phrase("correct house")).unwrap_err();
    assert!(matches!(wrong, WalletError::WrongPassphrase { .. }), "{wrong}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&hex::encode(wallet.key().to_bytes())));
}

#[test]
fn a_wallet_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.json");
    let wallet = new_wallet(&path);
    let other = Wallet::generate().unwrap();
    let again = create(&path, &other, &phrase("correct horse"), CHEAP);
    assert!(matches!(again, Err(WalletError::File(SealedError::Exists { .. }))));
    assert_eq!(open(&path, &phrase("correct horse")).unwrap().account(), wallet.account());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn every_damaged_byte_is_told_from_a_wrong_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.json");
    new_wallet(&path);
    let whole = std::fs::read(&path).unwrap();
    let bad = dir.path().join("bad.json");
    for place in (0..whole.len()).filter(|i| !whole[*i].is_ascii_whitespace()) {
        let mut bytes = whole.clone();
        // Stays a hexadecimal digit where one was, so that parsers have no easy way out.
        bytes[place] = if bytes[place] == b'1' { b'2' } else { b'1' };
        std::fs::write(&bad, bytes).unwrap();
        let error = open(&bad, &phrase("correct horse")).unwrap_err();
        assert!(matches!(error, WalletError::File(SealedError::Damaged { .. })), "byte {place}: {error}");
    }
    for length in [0, 1, whole.len() / 2, whole.len() - 3] {
        std::fs::write(&bad, &whole[..length]).unwrap();
        assert!(matches!(open(&bad, &phrase("correct horse")), Err(WalletError::File(SealedError::Damaged { .. }))));
    }
}

#[test]
fn a_file_cannot_ask_for_all_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.json");
    let header = Keystore {
        version: 1,
        address: AccountId([1; 32]),
        kdf: "argon2id".into(),
        cost: KdfCost { memory_kib: u32::MAX, passes: 1, lanes: 1 },
        salt: podl_rpc::types::HexBytes(vec![0; 16]),
        cipher: "xchacha20poly1305".into(),
    };
    let key = sealed::SecretKey::new([0; 32]);
    sealed::Sealed::seal(header, &key, &[0; 32]).unwrap().create(&path).unwrap();
    assert!(matches!(open(&path, &phrase("correct horse")), Err(WalletError::Costly { .. })));
}

#[test]
fn a_backup_opens_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let [path, copy, back] = ["w.json", "copy.json", "back.json"].map(|name| dir.path().join(name));
    let wallet = new_wallet(&path);
    assert!(matches!(backup(&path, &copy, &phrase("wrong one")), Err(WalletError::WrongPassphrase { .. })));
    assert!(!copy.exists(), "nothing is copied before the passphrase is known to be right");
    assert_eq!(backup(&path, &copy, &phrase("correct horse")).unwrap(), wallet.account());
    assert!(matches!(
        backup(&path, &copy, &phrase("correct horse")),
        Err(WalletError::File(SealedError::Exists { .. }))
    ));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(restore(&copy, &back, &phrase("correct horse")).unwrap(), wallet.account());
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = list(dir.path()).unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|(_, w)| w.as_ref().unwrap().address == wallet.account()));
}

#[test]
fn passphrases_come_from_file_then_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "from the file\n").unwrap();
    let environment = Some(phrase("from the environment"));
    let both = PassphraseSource { file: Some(file.clone()), environment: environment.clone() };
    assert_eq!(both.get("").unwrap().as_bytes(), b"from the file");
    let env = PassphraseSource { file: None, environment };
    assert_eq!(env.get("").unwrap().as_bytes(), b"from the environment");
    let short = PassphraseSource { file: None, environment: Some(phrase("short")) };
    assert!(short.choose("").unwrap_err().to_string().contains("too short"));
    std::fs::write(&file, "one\ntwo\n").unwrap();
    assert!(both.get("").unwrap_err().to_string().contains("one line"));
    let missing = PassphraseSource { file: Some(dir.path().join("none")), environment: None };
    assert!(missing.get("").is_err());
}

#[test]
fn well_known_accounts_are_those_of_the_shipped_specifications() {
    for chain in ["dev", "testnet"] {
        let spec = ChainSpec::load(chain).unwrap();
        let accounts: Vec<AccountId> = spec.genesis.accounts.iter().map(|a| a.account).collect();
        let expected: Vec<AccountId> =
            well_known::FUNDED.iter().map(|name| well_known::wallet(name).unwrap().account()).collect();
        assert_eq!(accounts, expected, "{chain}");
        assert_eq!(spec.genesis.seats, expected[..4], "{chain}");
    }
}

#[test]
fn well_known_accounts_are_for_development_chains() {
    let source = PassphraseSource::default();
    let seat = WalletRef::parse("dev:seat-0", Path::new("/w"));
    for chain in ["dev", "testnet", "testnet-2"] {
        assert!(seat.open(chain, &source).is_ok(), "{chain}");
    }
    assert!(matches!(seat.open("main", &source), Err(WalletError::NotADevelopmentChain { .. })));
    let nobody = WalletRef::parse("dev:seat-9", Path::new("/w"));
    assert!(nobody.open("dev", &source).unwrap_err().to_string().contains("faucet"));
    assert_eq!(WalletRef::parse("alice", Path::new("/w")), WalletRef::File("/w/alice.json".into()));
    assert_eq!(WalletRef::parse("./alice", Path::new("/w")), WalletRef::File("./alice".into()));
}
