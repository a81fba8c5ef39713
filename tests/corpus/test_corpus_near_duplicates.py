"""Near-duplicates: MinHash's probabilities, clusters for any shards, and datatrove's verdicts."""

import itertools
import math
import random
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup import minhash as peer
from datatrove.utils.hashing import HashConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cpt.config_sections import NearDuplicates
from cpt.corpus import near_duplicates as module
from cpt.corpus.documentation import documents_of, source_files
from cpt.corpus.keep_lists import keep_lists
from cpt.corpus.near_duplicates import band_hashes, contained_in_another, first_of_clusters, hash_ngrams
from cpt.corpus.words import words_of
from cpt.errors import UserError
from minhash import minhash
from near_duplicates import near_duplicates

FINEWEB = NearDuplicates(ngram=5, bands=14, rows=8, seed=0)


def signatures(texts: list[str], **options) -> np.ndarray:
    """Band hashes: uint64 [bands, documents]."""
    return np.stack(list(band_hashes(texts, FINEWEB.model_copy(update=options))), axis=1)


def ngrams(text: str) -> set[tuple[str, ...]]:
    """The 5-grams of words, computed independently of the module."""
    words = re.findall(r"\w+", text.lower())
    return {*zip(*(words[k:] for k in range(5)), strict=False)}


def jaccard(one: str, other: str) -> float:
    return len(ngrams(one) & ngrams(other)) / len(ngrams(one) | ngrams(other))


def matches(hashes: np.ndarray, one, other) -> np.ndarray:
    """Whether documents agree in a band."""
    return ((hashes[:, one] == hashes[:, other]) & (hashes[:, one] != 0)).any(axis=0)


def words(generator: random.Random, count: int) -> list[str]:
    return [f"{generator.getrandbits(48):x}" for _ in range(count)]


def pair(generator: random.Random, replaced: int, count: int = 104) -> tuple[str, str]:
    """Two texts of `count` words that differ in the last `replaced`."""
    shared, ends = words(generator, count - replaced), [words(generator, replaced) for _ in range(2)]
    return tuple(" ".join(shared + end) for end in ends)


# ------------------------------------------------------------------------------------------ signatures
GOLDEN = ["4bcb6257a6b97c40", "be229f6a7a7bf849", "318639b9c7b6e30a"]


def test_ngrams_are_of_words_without_case_and_punctuation():
    texts = ["The cat, the DOG; and a mouse!", "the cat the dog\nand a -- mouse"]
    assert hash_ngrams(texts[0], 5).tolist() == hash_ngrams(texts[1], 5).tolist()
    assert len(hash_ngrams(texts[0], 5)) == 3 and len(set(hash_ngrams("a b c d e f " * 9, 5))) == 6
    assert hash_ngrams("one two three four", 5).tolist() == []
    assert hash_ngrams("a b", 2) != hash_ngrams("b a", 2)
    assert np.array_equal(*signatures(texts).T)


def test_equal_ngram_hashes_mean_equal_ngrams():
    generator = random.Random(0)
    vocabulary = ["a", "b", "c", "don't", "3.14", "état", "日本"]
    texts = [" ".join(generator.choices(vocabulary, k=40)) for _ in range(60)]
    hashes, strings = {}, {}
    for text in texts:
        text_words = words_of(text, punctuation=False)
        in_order = zip(text_words, text_words[1:], text_words[2:], strict=False)
        for value, ngram in zip(hash_ngrams(text, 3).tolist(), in_order, strict=True):
            assert hashes.setdefault(ngram, value) == value and strings.setdefault(value, ngram) == ngram
    assert len(hashes) > 200


def test_blocks_of_a_long_text_do_not_matter(monkeypatch):
    text = " ".join(words(random.Random(1), 5_000))
    whole = signatures([text])
    monkeypatch.setattr(module, "BLOCK", 77)
    assert np.array_equal(signatures([text]), whole)
    # A signature describes the set: neither order nor repetition of n-grams counts.
    again = signatures([text + " " + text])
    assert (again == whole).mean() > 0.9  # the four n-grams across the seam are new


def test_signatures_are_the_same_tomorrow():
    """Band hashes stay on disk, and later runs, perhaps of other releases, compare theirs with them."""
    assert [f"{value:016x}" for value in signatures(["the quick brown fox jumps over it"])[:3, 0]] == GOLDEN
    other = signatures(["the quick brown fox jumps over it"], seed=1)[:3, 0]
    assert not {f"{value:016x}" for value in other} & set(GOLDEN)


@pytest.mark.parametrize("replaced", [6, 9, 13, 17, 22, 29, 40])
def test_probability_of_a_match_is_the_published_curve(replaced):
    """1 - (1 - s^8)^14 at a known Jaccard similarity s, over 500 pairs of random texts."""
    generator = random.Random(replaced)
    pairs = [pair(generator, replaced) for _ in range(500)]
    similarity = (100 - replaced) / (100 + replaced)
    assert {jaccard(*texts) for texts in pairs[:20]} == {similarity}
    hashes = signatures([text for texts in pairs for text in texts])
    matched = int(matches(hashes, slice(0, None, 2), slice(1, None, 2)).sum())
    probability = 1 - (1 - similarity**8) ** 14
    deviation = math.sqrt(500 * probability * (1 - probability))
    assert abs(matched - 500 * probability) < 4 * deviation + 1e-9


def test_other_bands_and_rows_follow_their_own_curve():
    generator = random.Random(3)
    texts = [text for _ in range(500) for text in pair(generator, 25)]
    hashes = signatures(texts, bands=20, rows=5, seed=4)
    matched = matches(hashes, slice(0, None, 2), slice(1, None, 2)).sum()
    probability = 1 - (1 - 0.6**5) ** 20
    assert abs(matched - 500 * probability) < 4 * math.sqrt(500 * probability * (1 - probability))


# -------------------------------------------------------------------------------------------- clusters
def clusters_by_hand(hashes: np.ndarray, present: list[bool]) -> list[int]:
    """The first document of each document's cluster, from a comparison of all pairs."""
    first = list(range(hashes.shape[1]))
    changed = True
    while changed:
        changed = False
        for one, other in itertools.combinations(range(len(first)), 2):
            joined = present[one] and present[other] and matches(hashes, [one], [other])[0]
            if joined and first[one] != first[other]:
                first[one] = first[other] = min(first[one], first[other])
                changed = True
    return first


def test_chains_become_one_cluster_whose_first_stays():
    # 3 and 1 agree in the first band, 1 and 4 in the second; zeros match nothing; 5 isn't present.
    hashes = np.array([[0, 7, 8, 7, 9, 7], [0, 5, 0, 6, 5, 1]], np.uint64)
    present = np.array([True, True, True, True, True, False])
    assert first_of_clusters([hashes], present).tolist() == [0, 1, 2, 1, 1, 5]
    assert first_of_clusters([hashes[:, :2], hashes[:, 2:]], present).tolist() == [0, 1, 2, 1, 1, 5]
    assert first_of_clusters([hashes[:, :0]], present[:0]).tolist() == []


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_clusters_do_not_depend_on_shards_or_ranges(data):
    count, bands = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    value = st.sampled_from([0, 1, 2**31, 2**40, 2**63, 2**64 - 1])
    hashes = np.array(
        data.draw(st.lists(st.lists(value, min_size=count, max_size=count), min_size=bands, max_size=bands)),
        np.uint64,
    )
    present = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    shards = [hashes[:, start:end] for start, end in itertools.pairwise([0, *cuts, count])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SORTED", data.draw(st.integers(1, 20)))
        firsts = first_of_clusters(shards, np.array(present))
    assert firsts.tolist() == clusters_by_hand(hashes, present)


def lay_out(save_table, root: Path, shards: dict[str, list[list[str]]], keep=lambda text: True) -> dict:
    """Write filtered documents, keep-lists and signatures; returns the arguments of `near_duplicates`."""
    everything = [texts for parts in shards.values() for texts in parts]
    kinds = {"documents": ".parquet", "signatures": ".npy"}
    lists = {name: [root / f"{n}{end}" for n in range(len(everything))] for name, end in kinds.items()}
    lists |= {"unique": [root / corpus / "deduplicated" for corpus in shards]}
    lists |= {"keep": [root / corpus / "keep" for corpus in shards]}
    corpora = {corpus: len(parts) for corpus, parts in shards.items()}
    for folder in lists["unique"]:
        folder.mkdir(parents=True)
    unique = keep_lists(lists["unique"], corpora)
    for number, texts in enumerate(everything):
        rows = {"row": list(range(len(texts))), "text": np.array(texts, str).tolist()}
        rows |= {"id": [str(n) for n in range(len(texts))], "url": [""] * len(texts)}
        rows["bytes"] = np.array([len(text.encode()) for text in texts], np.int64)
        save_table(lists["documents"][number], rows)
        np.save(unique[number], np.array([keep(text) for text in texts], bool))
        minhash(lists["documents"][number], FINEWEB, lists["signatures"][number])
    return {"corpora": corpora, **lists, "table": root / "near_duplicates.csv"}


def kept_texts(shards: dict[str, list[list[str]]], keep: list[Path]) -> list[str]:
    everything = [text for parts in shards.values() for texts in parts for text in texts]
    corpora = {corpus: len(parts) for corpus, parts in shards.items()}
    stays = np.concatenate([np.load(path) for path in keep_lists(keep, corpora)])
    return [text for text, stay in zip(everything, stays, strict=True) if stay]


FAMILIES = [pair(random.Random(number), 2) for number in range(4)] + [("too few words", "too few words?")]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_assignment_to_shards_keeps_the_first_of_each_family(save_table, data):
    # With 2 of 104 words replaced, s = 0.96: a pair is missed with probability 7e-9.
    chosen = data.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), max_size=14))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(chosen)), min_size=3, max_size=3)))
    texts = [FAMILIES[family][version] for family, version in chosen]
    parts = [texts[start:end] for start, end in itertools.pairwise([0, *cuts, len(texts)])]
    layout = {"one": parts[:1], "two": parts[1:]}
    with tempfile.TemporaryDirectory() as folder:
        files = lay_out(save_table, Path(folder), layout)
        near_duplicates(**files)
        kept = kept_texts(layout, files["keep"])
    seen: set[int] = set()
    expected = []
    for family, version in chosen:
        if family == 4 or family not in seen:
            expected.append(FAMILIES[family][version])
        seen.add(family)
    assert kept == expected


# ----------------------------------------------------------------------------------------- containment
def contained(texts: list[str | None], share: float = 0.8) -> list[int]:
    return np.flatnonzero(
        contained_in_another(texts, FINEWEB.model_copy(update={"containment": share}))
    ).tolist()


def test_pages_are_contained_in_the_single_page_of_a_manual():
    generator = random.Random(5)
    pages = [" ".join(words(generator, 200)) for _ in range(6)]
    whole = "A manual\n\n" + "\n\n".join(pages)
    assert contained([*pages, whole]) == [0, 1, 2, 3, 4, 5]
    assert contained([whole, *pages]) == [1, 2, 3, 4, 5, 6]
    assert contained([whole, None, *pages[1:]]) == [2, 3, 4, 5, 6]
    assert contained([None, *pages]) == []
    # A page whose second half is in no other document, and a page of few words.
    mixed = f"{pages[0][: len(pages[0]) // 2]} {' '.join(words(generator, 120))}"
    assert contained([whole, mixed, "a short page"]) == []
    assert contained([whole, mixed], 0.3) == [1]
    # The first of equal documents stays; a chain leaves only the longest.
    assert contained([pages[0], pages[0].upper()]) == [1]
    assert contained([pages[0], "\n".join(pages[:3]), whole]) == [0, 1]
    assert contained([]) == []


def test_a_document_is_only_dropped_for_one_that_stays():
    """The second, which holds 85 % of the first, goes for the third, which holds only 70 % of it."""
    first, second, third = ([f"{name}{number}" for number in range(16_000)] for name in "abc")
    texts = [first[:4000], first[:3400] + second, first[600:3400] + second + third]
    assert contained([" ".join(words) for words in texts]) == [1]


def test_what_many_documents_have_in_common_contains_none_of_them():
    generator = random.Random(6)
    notice = " ".join(words(generator, 100))
    texts = [f"{notice} {' '.join(words(generator, 90))}" for _ in range(30)]
    assert contained(texts, 0.5) == []


def test_the_stage_keeps_the_single_page(save_table, tmp_path):
    generator = random.Random(7)
    pages = [" ".join(words(generator, 150)) for _ in range(4)]
    shards = {"a": [pages[:2], pages[2:]], "b": [["\n\n".join(pages)]]}
    files = lay_out(save_table, tmp_path, shards)
    near_duplicates(**files)
    assert kept_texts(shards, files["keep"]) == [*pages, "\n\n".join(pages)]
    shutil.rmtree(files["keep"][0]), shutil.rmtree(files["keep"][1])
    near_duplicates(**files, near=FINEWEB.model_copy(update={"containment": 0.8}))
    assert kept_texts(shards, files["keep"]) == ["\n\n".join(pages)]


def test_exact_duplicates_count_once(save_table, tmp_path):
    (one, near), (other, gone) = FAMILIES[0], FAMILIES[1]
    shards = {"a": [[gone, one], [near]], "b": [[other, one + "!", near]]}
    files = lay_out(save_table, tmp_path, shards, keep=lambda text: text != gone)
    near_duplicates(**files)
    assert kept_texts(shards, files["keep"]) == [one, other]
    table = (tmp_path / "near_duplicates.csv").read_text()
    assert table.splitlines() == [
        "corpus,shard,documents,near_duplicates,bytes",
        "a,00000,1,0,0",
        f"a,00001,1,1,{len(near)}",
        f"b,00000,3,2,{len(one) + 1 + len(near)}",
    ]
    minhash(files["documents"][2], FINEWEB, tmp_path / "again.npy")
    assert (tmp_path / "again.npy").read_bytes() == files["signatures"][2].read_bytes()
    assert not list(tmp_path.rglob(".*"))
    np.save(files["unique"][1] / "00000.keep.npy", np.ones(2, bool))
    with pytest.raises(UserError, match=r"fit the 3 documents of .*; delete .*/b/deduplicated and run again"):
        near_duplicates(**files)


# ----------------------------------------------------------------------- real text, and datatrove's own
@pytest.fixture(scope="module")
def documentation() -> list[str]:
    return [document.text for file in source_files(["numpy"], "x") for document in documents_of(file)]


@pytest.fixture(scope="module")
def hashes(documentation) -> np.ndarray:
    return signatures(documentation)


@pytest.fixture(scope="module")
def similar(documentation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs that share an n-gram: both positions, and their Jaccard similarity."""
    sets = [np.unique(hash_ngrams(text, 5)) for text in documentation]
    sizes = np.array([len(one) for one in sets])
    columns = np.unique(np.concatenate(sets), return_inverse=True)[1]
    rows = np.repeat(np.arange(len(sets)), sizes)
    incidence = sparse.csr_matrix((np.ones(len(rows), np.int32), (rows, columns)))
    shared = sparse.triu(incidence @ incidence.T, 1).tocoo()
    one, other = shared.row, shared.col
    return one, other, shared.data / (sizes[one] + sizes[other] - shared.data)


def test_matches_in_real_text_follow_the_curve(hashes, similar):
    one, other, similarity = similar
    matched = matches(hashes, one, other)
    assert matched[similarity > 0.97].all() and (similarity > 0.97).sum() > 5
    assert not matched[similarity < 0.25].any()
    between = (similarity >= 0.4) & (similarity <= 0.95)
    probability = 1 - (1 - similarity[between] ** 8) ** 14
    # Pairs that share a document aren't independent, which widens the spread.
    spread = 8 * math.sqrt((probability * (1 - probability)).sum())
    assert abs(matched[between].sum() - probability.sum()) < spread
    assert between.sum() > 100


class OurWords(peer.MinhashDedupSignature):
    """datatrove's first stage with our n-grams and its own permutations."""

    def __init__(self, *arguments, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peer, "load_word_tokenizer", lambda language: None)
            super().__init__(*arguments, **options)

    def get_shingles(self, text: str) -> np.ndarray:
        return hash_ngrams(text, 5).reshape(-1, 1)


class OurBands(OurWords):
    """datatrove's first stage with our band hashes, one per band."""

    def get_shingles(self, text: str) -> np.ndarray:
        return signatures([text])[:, 0] if len(hash_ngrams(text, 5)) else np.empty(0)

    def get_signature(self, shingles: np.ndarray) -> list[list[int]]:
        return [[int(value) >> 3] for value in shingles]  # datatrove skips hashes from 2**61 - 1 on


def datatrove_clusters(texts: list[str], kind: type, rows: int, folder: Path) -> set[frozenset[int]]:
    """The clusters of two and more documents that datatrove finds, with the texts spread over two files."""
    config = peer.MinhashConfig(
        n_grams=5, num_buckets=14, hashes_per_bucket=rows, hash_config=HashConfig(precision=64)
    )
    half = len(texts) // 2
    signature, buckets, output = (str(folder / name) for name in ("signatures", "buckets", "clusters"))
    for rank, part in enumerate([texts[:half], texts[half:]]):
        kind(signature, config).run((Document(text=text, id="") for text in part), rank, 2)
    for rank in range(14):
        peer.MinhashDedupBuckets(signature, buckets, config=config).run(None, rank, 14)
    peer.MinhashDedupCluster(buckets, output, config=config, save_cluster_id=True).run(None, 0, 1)
    clusters: dict[int, set[int]] = {}
    for rank, start in enumerate([0, half]):
        for document, cluster in np.fromfile(folder / "clusters" / f"{rank:06d}.clusters", "<u4").reshape(
            -1, 2
        ):
            clusters.setdefault(int(cluster), set()).add(start + int(document))
    return {frozenset(cluster) for cluster in clusters.values()}


def our_clusters(hashes: np.ndarray) -> set[frozenset[int]]:
    first = first_of_clusters([hashes], np.ones(hashes.shape[1], bool))
    members: dict[int, set[int]] = {}
    for document, root in enumerate(first.tolist()):
        members.setdefault(root, set()).add(document)
    return {frozenset(cluster) for cluster in members.values() if len(cluster) > 1}


def test_datatrove_makes_the_same_clusters_of_the_same_signatures(documentation, hashes, tmp_path):
    ours = our_clusters(hashes)
    assert datatrove_clusters(documentation, OurBands, 1, tmp_path) == ours
    assert len(ours) > 20 and max(map(len, ours)) > 2


def test_datatrove_drops_nearly_the_same_with_its_own_permutations(documentation, hashes, tmp_path):
    theirs = datatrove_clusters(documentation, OurWords, 8, tmp_path)
    clusterings = [our_clusters(hashes), theirs]
    one, other = ({d for cluster in clusters for d in sorted(cluster)[1:]} for clusters in clusterings)
    assert abs(len(one) - len(other)) < 0.1 * len(one)
    assert len(one & other) > 0.6 * len(one | other)
    pairs = [
        {two for cluster in clusters for two in itertools.combinations(sorted(cluster), 2)}
        for clusters in clusterings
    ]
    # They differ only on pairs that chance decides.
    for one, other in pairs[0] ^ pairs[1]:
        assert jaccard(documentation[one], documentation[other]) < 0.9
