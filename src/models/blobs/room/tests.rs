use super::{Full, Kept, room};
use crate::{
    domain::Digest,
    models::blobs::homes::{Claim, Stay},
};

fn file(byte: u8, bytes: u64, own: Option<(Stay, u64)>) -> Kept {
    let claim = |(stay, used_ms)| Claim { stay, used_ms };
    Kept { digest: Digest::new([byte; 32]), bytes, own: own.map(claim), others: None, in_use: false }
}

/// What may go, each by what it is called in `kept`.
fn order(kept: &[Kept], wanted: u64, limit: u64) -> (Vec<usize>, u64) {
    let (may_go, missing) = room(kept, wanted, limit).expect("there is room to be made");
    let place =
        |gone: &Kept| kept.iter().position(|file| file.digest == gone.digest).expect("one of them") + 1;
    (may_go.iter().map(place).collect(), missing)
}

#[test]
fn what_was_used_longest_ago_goes_first_and_of_one_model_the_largest() {
    let kept = [
        file(1, 10, Some((Stay::Again, 30))),
        file(2, 10, Some((Stay::Again, 10))),
        file(3, 20, Some((Stay::Again, 10))),
        file(4, 5, None),
        Kept {
            others: Some(Claim { stay: Stay::Again, used_ms: 40 }),
            ..file(5, 10, Some((Stay::Again, 1)))
        },
    ];
    assert_eq!(order(&kept, 10, 60), (vec![4, 3, 2, 1, 5], 5));
    assert_eq!(order(&kept, 5, 60), (vec![], 0), "nothing goes while all fits");
}

#[test]
fn what_must_stay_is_told_with_its_size() {
    let (again, mine) = (Claim { stay: Stay::Again, used_ms: 0 }, Some((Stay::Again, 1)));
    let kept = [
        file(1, 1, Some((Stay::Pinned, 1))),
        file(2, 2, Some((Stay::Only, 1))),
        Kept { others: Some(Claim { stay: Stay::Only, ..again }), ..file(3, 4, mine) },
        Kept { in_use: true, ..file(4, 8, mine) },
        file(5, 16, mine),
    ];
    let full = Full { wanted: 20, limit: 31, pinned: 1, only: 2, others: 4, in_use: 8 };
    assert_eq!(room(&kept, 20, 31).map(|(_, missing)| missing), Err(full));
    assert!(full.passes(), "what is in use will not be for ever");
    let full = room(&kept, 26, 31).expect_err("what stays leaves 24");
    assert!(!full.passes(), "{full}");
    let said = full.to_string();
    for part in [
        "26 bytes",
        "31 (models.cache_max)",
        "1 bytes are pinned",
        "2 bytes are of models",
        "8 bytes are loaded",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(order(&kept, 16, 31), (vec![5], 16));
}
