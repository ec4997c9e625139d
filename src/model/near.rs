//! The word that a mistyped one was meant to be.

/// Returns the word that is nearest to a mistyped one, if one is near.
pub fn nearest<'w>(wrong: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    words
        .map(|word| (distance(wrong, word), word))
        .filter(|(distance, word)| {
            let length = word.chars().count();
            // A word of which nothing is left was not meant.
            *distance <= 1 + length / 4 && *distance < length
        })
        .min()
        .map(|(_, word)| word)
}

/// The number of insertions, deletions, changes and swaps of neighbours between two words.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for (i, left) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in other.iter().enumerate() {
            let change = rows[i][j] + usize::from(left != right);
            let mut best = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && one[i - 1] == *right && *left == other[j - 1] {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last()
        .and_then(|row| row.last())
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested() {
        let words = ["serve", "port", "ports", "a"];
        for (wrong, expected) in [
            ("serv", Some("serve")),
            ("prot", Some("port")),
            ("prots", Some("ports")),
            ("xyz", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(wrong, words.into_iter()), expected, "{wrong}");
        }
    }
}
