"""Reading interactions from files: every format, and every malformed row refused by its line."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from models.errors import DatasetError
from models.recommender.formats import BATCH_ROWS, Interaction, read_batches
from models.recommender.options import Options

MOVIELENS = "userId,movieId,rating,timestamp\n"
RECBOLE = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def read(path: Path, options: Options | None = None) -> list[Interaction]:
    return [row for batch in read_batches(path, options or Options()) for row in batch.rows]


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_movielens_csv(tmp_path):
    path = write(tmp_path, "ratings.csv", MOVIELENS + "1,31,2.5,1260759144\n\n007,x y,5,1260759179\n")
    assert read(path) == [
        Interaction("1", "31", 2.5, 1260759144.0),
        Interaction("007", "x y", 5.0, 1260759179.0),
    ]


def test_csv_with_splits_and_quoted_ids(tmp_path):
    path = write(tmp_path, "a.csv", 'split,item,user\nholdout,"a,b",u\n,c,u\n')
    assert read(path) == [Interaction("u", "a,b", split=1), Interaction("u", "c", split=0)]


def test_recbole(tmp_path):
    path = write(tmp_path, "a.inter", RECBOLE + "u 1\ti1\t4.0\t10.5\n")
    assert read(path) == [Interaction("u 1", "i1", 4.0, 10.5)]


def test_recbole_without_ratings(tmp_path):
    path = write(tmp_path, "a.inter", "item_id:token\tuser_id:token\ni\tu\n")
    assert read(path) == [Interaction("u", "i")]


def test_lastfm_triples(tmp_path):
    path = write(tmp_path, "data1.txt", "424\t4076\t993\n1311\t1574\t957\n")
    assert read(path) == [Interaction("424", "4076"), Interaction("1311", "1574")]


def test_pairs_between_tabs(tmp_path):
    assert read(write(tmp_path, "a.tsv", "a b\tc\n")) == [Interaction("a b", "c")]


def test_adjacency_lines(tmp_path):
    path = write(tmp_path, "train.txt", "0 5 7\n1\n2 5\n")
    assert read(path) == [Interaction("0", "5"), Interaction("0", "7"), Interaction("2", "5")]


def test_parquet_equals_csv(tmp_path):
    frame = {"user": [7, 8], "item": ["x", "y"], "timestamp": [1, 2]}
    parquet.write_table(pa.table(frame), tmp_path / "a.parquet")
    text = write(tmp_path, "a.csv", "user,item,timestamp\n7,x,1\n8,y,2\n")
    assert read(tmp_path / "a.parquet") == read(text)


def test_rows_come_in_batches(tmp_path):
    path = write(tmp_path, "a.tsv", "".join(f"u{row}\ti\n" for row in range(BATCH_ROWS + 1)))
    assert [len(batch.rows) for batch in read_batches(path, Options())] == [BATCH_ROWS, 1]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", MOVIELENS + "1,2,3\n", "line 2: it has 3 fields, but the header has 4"),
        ("a.csv", MOVIELENS + "1,2,3,4\n1,,3,4\n", "line 3: the item is empty"),
        ("a.csv", MOVIELENS + "1,2,good,4\n", "line 2: the rating is not a number"),
        ("a.csv", MOVIELENS + "1,2,5.5,4\n", "line 2: the rating 5.5 is not between 0.5 and 5"),
        ("a.csv", MOVIELENS + "1,2,0,4\n", "line 2: the rating 0 is not between 0.5 and 5"),
        ("a.csv", MOVIELENS + "1,2,nan,4\n", "line 2: the rating is not finite"),
        ("a.csv", MOVIELENS + "1,2,3,inf\n", "line 2: the timestamp is not finite"),
        ("a.csv", MOVIELENS + f"{'9' * 513},2,3,4\n", "line 2: the user is longer than 512"),
        ("a.csv", MOVIELENS + "a\x07,2,3,4\n", "line 2: the user 'a\\x07' contains control"),
        ("a.csv", 'user,item\n"a,b\n', "line 2: it is not valid CSV"),
        ("a.csv", "user,item,split\na,b,test\n", "line 2: the split 'test' is neither"),
        ("a.csv", "user,rating\n", "line 1: the column 'item' is missing"),
        ("a.csv", "user,item,tag\n", "line 1: unexpected column 'tag'"),
        ("a.csv", "user,userId,item\n", "line 1: a column is there twice"),
        (
            "a.inter",
            "user_id:token\titem_id\n",
            "line 1: the column 'item_id' must be declared as item_id:token",
        ),
        ("a.inter", RECBOLE.replace("rating:float", "rating:token"), "line 1: the column 'rating' must be"),
        ("a.inter", RECBOLE + "u\ti\t4\n", "line 2: it has 3 fields, but the header has 4"),
        ("a.txt", "1\t2\t3\n1\t2\n", "line 2: it has 2 fields, but the lines before have 3"),
        ("a.txt", "1\t2\t0\n", "line 1: the count is not positive"),
        ("a.txt", "1\t2\t3\t4\n", "line 1: it has 4 fields"),
        ("a.tsv", "1 2\n", "line 1: it has 1 fields"),
        ("a.txt", "1 2\n1\t2\n", "line 2: it has a tab"),
        ("a.dat", "1::2\n", "a.dat has an unknown format; use .csv, .inter"),
    ],
)
def test_a_malformed_file_is_refused_by_its_line(tmp_path, name, text, said):
    with pytest.raises(DatasetError) as refusal:
        read(write(tmp_path, name, text))
    assert said in str(refusal.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"a\tb\n\xff\xfe\tb\n")
    with pytest.raises(DatasetError, match=r"a\.tsv, line 2: it is not UTF-8"):
        read(tmp_path / "a.tsv")


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"user": ["a", None], "item": ["x", "y"]}, "row 1 (counting from 0): the user is neither"),
        ({"user": ["a"], "item": [1.5]}, "row 0 (counting from 0): the item is neither"),
        (
            {"user": ["a"], "item": ["x"], "rating": [None]},
            "row 0 (counting from 0): the rating is not a number",
        ),
        (
            {"user": ["a"], "item": ["x"], "rating": [9.0]},
            "row 0 (counting from 0): the rating 9 is not between",
        ),
        ({"user": ["a"]}, "the column 'item' is missing"),
    ],
)
def test_a_malformed_parquet_row_is_refused_by_its_number(tmp_path, frame, said):
    parquet.write_table(pa.table(frame), tmp_path / "a.parquet")
    with pytest.raises(DatasetError) as refusal:
        read(tmp_path / "a.parquet")
    assert said in str(refusal.value)


def test_what_is_no_parquet_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="not a usable Parquet file"):
        read(write(tmp_path, "a.parquet", "PAR1"))


def test_the_rating_range_is_an_option(tmp_path):
    path = write(tmp_path, "a.csv", MOVIELENS + "1,2,9,4\n")
    assert read(path, Options(rating_range=(0, 10)))[0].rating == 9
