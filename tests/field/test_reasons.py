"""Finding out why: what fails leaves a line that says which request, where and why."""

import re

import pytest
from site_runs import MESH, running, service_text, settings, shared_site, stage

from mesh import Client
from mesh.errors import ServerError

SERVICE = service_text("reasons")
STAGES = {"hostile": stage("Hostile", max_batch_size=4, timeout="1s"), "names": "Names"}
FILE = settings(STAGES, timeout="40s", restart_grace="40s")
site = shared_site("reasons", FILE, ours=True)


def test_a_worker_that_empties_its_list_or_raises_what_lies_costs_its_batch_alone(site):
    _, (_, pid, _, _), _ = site.ask("well")
    for word, status, code in (
        ("empties", 500, "server_error"),
        ("empties and returns", 500, "server_error"),
        ("mute", 400, "bad_request"),
        ("traceless", 500, "server_error"),
        ("cancelled", 500, "server_error"),
    ):
        got, error, _ = site.ask(word)
        assert (got, error["code"]) == (status, code), word
    _, (_, same, _, _), _ = site.ask("well")
    assert same == pid  # nobody has died of it


def test_a_message_of_megabytes_is_cut_and_the_client_is_told_so(site):
    status, error, _ = site.ask("huge")
    assert status == 400
    assert len(error["message"].encode()) <= 4096
    assert error["message"].endswith("(cut; it has 5,000,000 characters)")


def test_who_ends_his_process_is_named_with_his_request(site):
    status, error, _ = site.ask("exit", "ender")
    assert (status, error["code"]) == (500, "poison_request")
    (told, *_) = site.messages("the worker ends this replica")
    assert "it called sys.exit(3) (request ender)" in told
    assert any("500 poison_request" in line for line in site.messages("request ender"))
    site.until(lambda: site.ask("well")[0] == 200, "it is started again")


def test_a_worker_knows_its_requests_by_the_ids_that_clients_see(site):
    _, (_, _, first, second), headers = site.ask("well", "trace-me_1")
    assert (first, second, headers["X-Request-ID"]) == ("trace-me_1",) * 3
    _, (_, _, first, second), headers = site.ask("well")
    assert (first, second) == (headers["X-Request-ID"],) * 2


def test_each_answer_of_5xx_leaves_a_line_with_the_clients_id_and_where_and_why(site):
    assert site.ask("raise boom", "id-500")[0] == 500
    assert site.ask("slow", "id-504")[0] == 504
    assert site.ask("mine", "id-mine")[0] == 500
    (line,) = site.until(lambda: site.messages("request id-500 to"), "the gateway's line")
    assert re.search(
        r"^request id-500 to /inference: 500 server_error, stage hostile, "
        r"replica [0-9a-f]+ \(.+, pid \d+\): the worker failed: .+$",
        line,
    )
    (line,) = site.messages("request id-504 to")
    assert "504 forward_timeout, stage hostile" in line
    (line,) = site.messages("request id-mine to")
    assert line.endswith(": the GPU is gone")
    (record,) = [one for one in site.records() if "raise boom (request id-500)" in one["message"]]
    assert "raise ValueError(word)" in record["traceback"]
    assert "stage/runner.py" not in record["traceback"]
    (record,) = [one for one in site.records() if "forward was interrupted" in one["message"]]
    assert "time.sleep(30)" in record["message"]


def test_the_cause_of_a_workers_own_error_is_logged_with_its_traceback(site):
    status, error, _ = site.ask("caused", "id-caused")
    assert (status, error["message"]) == (500, "model failed")
    said = "model failed (request id-caused)"
    (record,) = [one for one in site.records() if said in one["message"]]
    assert 'os.stat("/no/such/model")' in record["traceback"]
    assert "FileNotFoundError" in record["traceback"]
    assert "direct cause" in record["traceback"]


def test_what_keeps_an_error_from_speaking_is_a_warning_with_the_request(site):
    status, error, _ = site.ask("mute", "id-mute")
    assert (status, error["message"]) == (400, "its text cannot be read")
    (record,) = [one for one in site.records() if "id-mute" in one["message"]]
    assert record["level"] == "warning"
    assert "the text of Mute cannot be read: RuntimeError: no words" in record["message"]


def test_the_same_failure_leaves_ten_lines_and_another_message_is_another(site):
    for number in range(15):
        assert site.ask(f"raise again {number}")[0] == 500
    assert site.ask("raise something else")[0] == 500
    for source in ("gateway", "hostile/1"):
        told = [one["message"] for one in site.records() if one["source"] == source]
        assert len([one for one in told if "ValueError: raise again" in one]) == 10
        assert len([one for one in told if "ValueError: raise something else" in one]) == 1


def test_messages_that_begin_alike_are_told_apart_by_their_last_line(site):
    for _ in range(12):
        assert site.ask("lines no file")[0] == 500
    assert site.ask("lines no memory")[0] == 500
    for source in ("gateway", "hostile/1"):
        told = [one["message"] for one in site.records() if one["source"] == source]
        assert len([one for one in told if "cannot load: ... lines no file" in one]) == 10
        assert len([one for one in told if "cannot load: ... lines no memory" in one]) == 1


def test_what_was_left_out_is_told_at_the_end_at_the_latest(tmp_path):
    with running(tmp_path, SERVICE, FILE, ours=True) as service:
        for number in range(15):
            assert service.ask(f"raise again {number}")[0] == 500
        messages = service.messages
    assert any(one.startswith("and 5 more: the worker failed") for one in messages("and 5"))
    assert any(one.startswith("and 5 more: 500 server_error") for one in messages("and 5"))


def test_with_debug_a_client_is_shown_what_was_raised_and_without_it_not(site, tmp_path):
    _, error, _ = site.ask("raise secret")
    assert (error["message"], "traceback" in error) == ("the worker failed", False)
    with running(tmp_path, SERVICE, FILE, (MESH, "up", "--debug"), ours=True) as service:
        _, error, _ = service.ask("raise secret")
        assert error["message"] == "ValueError: raise secret"
        assert "raise ValueError(word)" in error["traceback"]
        with Client(service.url) as client, pytest.raises(ServerError, match="secret") as caught:
            client.infer("raise secret")
        assert "raise ValueError(word)" in caught.value.traceback
        assert service.messages("debug is on")
