"""How a benchmark's value travels to a server, and back."""

import json

from benchmarks import forms
from benchmarks.forms import Form


def test_plain_is_the_value_itself() -> None:
    request = forms.request(Form.PLAIN, 8000, "[1]")
    assert request.url == "http://127.0.0.1:8000/inference"
    assert (request.headers, request.body) == ({"Content-Type": "application/json"}, "[1]")
    assert forms.value(Form.PLAIN, {}, b"[1]") == [1]


def test_tritons_form_holds_the_value_after_a_head_of_the_length_it_says() -> None:
    request = forms.request(Form.KSERVE, 8000, '"\u00e9"')
    assert request.url == "http://127.0.0.1:8000/v2/models/service/infer"
    length = int(request.headers["Inference-Header-Content-Length"])
    head = json.loads(request.body[:length])
    assert head["inputs"][0]["shape"] == [1, 4]
    assert head["inputs"][0]["parameters"]["binary_data_size"] == 4
    assert head["outputs"][0]["parameters"] == {"binary_data": True}
    assert request.body[length:] == '"\u00e9"'


def test_tritons_answer_is_read_after_its_head() -> None:
    headers = {"Inference-Header-Content-Length": "12"}
    assert forms.value(Form.KSERVE, headers, b'{"outputs":2}'[:12] + b"131072.0") == 131072.0
