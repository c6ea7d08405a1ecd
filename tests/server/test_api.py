"""The images API of OpenAI: what programs send, and what they look for in the answer."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from PIL import Image

from dallecli.pictures.metadata import read_recipe
from dallecli.server.dials import DIALS
from dallecli.server.routes import existing
from tests.server.talking import JSON, ROOT, Talk, as_form, hole, picture, png, process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with process(tmp_path_factory.mktemp("server")) as talk:
        yield talk


def test_a_picture_comes_as_base64_and_under_a_url_that_leads_to_the_same_bytes(server):
    (entry,) = server.generate(seed=7).data
    data = base64.b64decode(entry["b64_json"])
    answer = server.get(entry["url"].partition(f":{server.port}")[2])
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, data, "image/png")
    assert entry["url"].startswith(f"http://127.0.0.1:{server.port}/files/")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert entry["revised_prompt"] == "a red car"


def test_the_picture_of_a_seed_is_the_command_lines_to_the_last_byte(server, tmp_path):
    (entry,) = server.generate(seed=7).data
    command = [sys.executable, "-m", "dallecli", "generate", "a red car", "--seed", "7", "-o", "-", "-q"]
    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path, env=_fake())
    assert base64.b64decode(entry["b64_json"]) == done.stdout


def _fake() -> dict[str, str]:
    return {**os.environ, "DALLE_ENGINE": "fake", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    ("model", "asked", "there"),
    [
        (None, None, {"url", "b64_json"}),
        ("dall-e-3", None, {"url", "b64_json"}),
        ("starter", None, {"url", "b64_json"}),
        ("gpt-image-1", None, {"b64_json"}),
        ("gpt-image-2.5-sunburst", None, {"b64_json"}),
        ("chatgpt-image-latest", None, {"b64_json"}),
        ("dall-e-2", "url", {"url"}),
        ("dall-e-2", "b64_json", {"b64_json"}),
        ("gpt-image-1", "url", {"url"}),
    ],
)
def test_what_an_answer_has_follows_from_the_model_unless_it_is_asked_for(server, model, asked, there):
    (entry,) = server.generate(model=model, response_format=asked).data
    assert {"url", "b64_json"} & set(entry) == there


@pytest.mark.parametrize(
    ("size", "pixels", "painted"),
    [
        ("256x256", (256, 256), "256x256"),
        ("512x512", (512, 512), "256x256"),
        ("1792x1024", (1792, 1024), "384x256"),
        ("1024x1792", (1024, 1792), "256x384"),
        ("384x256", (384, 256), "384x256"),
        ("300x250", (300, 250), "384x256"),
        ("64x64", (64, 64), "256x256"),
        ("96x64", (96, 64), "384x256"),
        ("1x1", (1, 1), "256x256"),
        ("300x7", (300, 7), "256x256"),
        ("auto", (256, 256), "256x256"),
        ("", (256, 256), "256x256"),
        (None, (256, 256), "256x256"),
        (512, (512, 512), "256x256"),
    ],
)
def test_a_size_is_exact_and_painted_in_its_proportions_where_the_model_can(server, size, pixels, painted):
    answer = server.generate(size=size)
    assert picture(answer.data[0]).size == pixels
    assert answer.json["size"] == f"{pixels[0]}x{pixels[1]}"
    assert answer.json["dalle"]["painted"] == painted


def test_pictures_of_one_request_have_consecutive_seeds_and_their_recipes_inside(server):
    answer = server.generate(n=3, seed=5)
    recipes = [read_recipe(base64.b64decode(entry["b64_json"])) for entry in answer.data]
    assert [entry["dalle"]["seed"] for entry in answer.data] == [5, 6, 7] == [recipe.seed for recipe in recipes]
    assert answer.json["dalle"]["seed"] == 5
    assert [entry["dalle"]["recipe"]["seed"] for entry in answer.data] == [5, 6, 7]


def test_null_is_the_same_as_nothing(server):
    fields = ("model", "n", "size", "quality", "style", "response_format", "background", "stream", "user", "seed")
    assert len(server.generate(**dict.fromkeys(fields)).data) == 1


def test_what_the_api_has_and_nothing_here_does_is_accepted_and_listed(server):
    answer = server.generate(style="vivid", moderation="low", user="u-1", quality="standard")
    assert answer.json["dalle"]["ignored"] == ["style", "moderation", "user"]
    assert answer.json["safety_identifier"] == "u-1"


def test_quality_is_how_much_work_goes_into_a_picture(server):
    steps = {}
    for quality in ("low", "standard", "hd"):
        (entry,) = server.generate(quality=quality).data
        steps[quality] = entry["dalle"]["recipe"]["stages"]["decoder"]["steps"]
    assert steps == {"low": 10, "standard": 25, "hd": 50}


def test_our_own_dials_come_beside_the_fields_of_the_api(server):
    (entry,) = server.generate(seed=3, steps=9, guidance=2.5, sampler="ddim", negative="a tree").data
    recipe = entry["dalle"]["recipe"]
    assert recipe["stages"]["decoder"] == {"sampler": "ddim", "steps": 9, "guidance": 2.5}
    assert recipe["settings"]["negative"] == "a tree"


def test_what_a_model_does_not_read_is_said(server):
    answer = server.generate(prompt=" ".join(f"word{k}" for k in range(40)))
    assert "word32" in answer.json["dalle"]["warnings"][0]


@pytest.mark.parametrize(
    "path", ["/images/generations", "/v1/images/generations", "/v1/images/generations?api-version=1"]
)
def test_a_path_exists_with_and_without_its_version(server, path):
    assert server.post(path, {"prompt": "a red car"}).status == 200


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_picture_is_in_the_format_that_is_asked_for(server, format):
    answer = server.generate(output_format=format)
    assert picture(answer.data[0]).format == format.upper()
    assert answer.json["output_format"] == format
    file = server.get("/files" + answer.data[0]["url"].partition("/files")[2])
    assert file.headers["content-type"] == f"image/{format}"


# Edits and variations


@pytest.mark.parametrize("name", ["image", "image[]"])
def test_an_edit_repaints_where_the_mask_is_transparent_and_nothing_else(server, name):
    answer = server.form("/v1/images/edits", ("prompt", "a couch"), ("n", "2"), (name, png()), ("mask", hole()))
    assert len(answer.data) == 2
    image = picture(answer.data[0])
    assert image.size == (100, 80)
    assert image.getpixel((0, 0)) == image.getpixel((99, 79)) == (255, 0, 0) != image.getpixel((40, 40))
    assert answer.json["dalle"]["task"] == "inpaint"


def test_without_a_mask_the_transparent_part_of_a_picture_is_repainted(server):
    answer = server.form("/v1/images/edits", ("prompt", "a couch"), ("image", hole()))
    assert answer.json["dalle"]["task"] == "inpaint"


def test_without_a_mask_an_opaque_picture_is_painted_over(server):
    answer = server.form("/v1/images/edits", ("prompt", "a couch"), ("image", png()), ("strength", "0.5"))
    recipe = answer.data[0]["dalle"]["recipe"]
    assert (recipe["task"], recipe["settings"]["strength"]) == ("generate", 0.5)


def test_an_edit_can_be_json_with_pictures_in_base64(server):
    image = base64.b64encode(png()).decode()
    for written in (image, f"data:image/png;base64,{image}", [{"image_url": f"data:image/png;base64,{image}"}]):
        body = {"prompt": "a couch", "image": written, "mask": base64.b64encode(hole()).decode()}
        assert picture(server.post("/v1/images/edits", body).data[0]).size == (100, 80)


def test_an_edit_has_the_size_of_its_picture_or_the_one_that_is_asked_for(server):
    parts = (("prompt", "a couch"), ("image", png()), ("mask", hole()))
    assert server.form("/v1/images/edits", *parts, ("size", "auto")).json["size"] == "100x80"
    assert server.form("/v1/images/edits", *parts, ("size", "512x256")).json["size"] == "512x256"


def test_a_variation_needs_a_picture_alone(server):
    answer = server.form("/v1/images/variations", ("image", png(size=(64, 64))), ("n", "2"), ("size", "256x256"))
    assert len(answer.data) == 2
    assert answer.json["dalle"]["task"] == "vary"
    assert "revised_prompt" not in answer.data[0]


def test_a_chunked_form_without_a_length_is_read(server):
    kind, body = as_form((("image", png()),))
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:50], body[50:]))
    head = f"POST /v1/images/variations HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    answer = server.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


# Models


def test_models_are_those_that_are_here_and_aliases_can_be_asked_for(server):
    listed = server.get("/v1/models").json
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["starter", "starter-1"]
    for name in ("starter", "dall-e-2", "gpt-image-1"):
        assert server.get(f"/v1/models/{name}").json["id"] == name
    for path in ("/v1/models/org/name", "/v1/models/org%2Fname", "/v1/models/karlo"):
        assert (server.get(path).status, server.get(path).error["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("name", ["/etc", ".", "./starter", "~", "../dallecli/starter", "gpt-5", "none"])
def test_a_client_cannot_name_a_folder_or_a_model_that_is_not_here(server, name):
    answer = server.generate(model=name)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")


def test_names_can_be_added_and_taken_away(tmp_path):
    with process(tmp_path, "--no-aliases", "--alias", "house-style=starter") as talk:
        assert talk.generate(model="house-style").status == 200
        assert talk.generate().status == 200
        assert talk.generate(model="dall-e-3").error["code"] == "model_not_found"


# Streams


def test_a_stream_shows_unfinished_pictures_and_ends_with_every_finished_one(server):
    events = server.generate(stream=True, partial_images=2, n=2, seed=1).events
    kinds = [event["type"].rpartition(".")[2] for event in events]
    assert kinds.count("partial_image") == 4
    assert kinds.count("completed") == 2
    assert kinds[-1] == "completed"
    partials = [event for event in events if event["dalle"]["index"] == 1 and "partial_image_index" in event]
    assert [event["partial_image_index"] for event in partials] == [0, 1]
    whole = server.generate(n=2, seed=1, response_format="b64_json").data
    done = [event for event in events if event["type"] == "image_generation.completed"]
    assert [event["b64_json"] for event in done] == [entry["b64_json"] for entry in whole]
    assert [event["dalle"]["seed"] for event in done] == [1, 2]
    for event in events:
        assert {"b64_json", "created_at", "size", "quality", "background", "output_format", "type"} <= set(event)


def test_a_streamed_edit_is_a_form_and_has_events_of_its_own(server):
    answer = server.form("/v1/images/edits", ("prompt", "x"), ("stream", "true"), ("image", png()), ("mask", hole()))
    assert [event["type"] for event in answer.events] == ["image_edit.completed"]
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_a_bad_request_for_a_stream_is_an_error_and_no_stream(server):
    answer = server.generate(stream=True, size="big")
    assert (answer.status, answer.error["param"]) == (400, "size")


# Errors


@pytest.mark.parametrize(
    ("value", "status", "code", "param"),
    [
        ({"prompt": None}, 400, "invalid_prompt", "prompt"),
        ({"prompt": " "}, 400, "invalid_prompt", "prompt"),
        ({"prompt": "x" * 40000}, 400, "invalid_prompt", "prompt"),
        ({"prompt": 7}, 400, "invalid_value", "prompt"),
        ({"n": 0}, 400, "invalid_value", "n"),
        ({"n": 11}, 400, "invalid_value", "n"),
        ({"n": 1.5}, 400, "invalid_value", "n"),
        ({"n": True}, 400, "invalid_value", "n"),
        ({"size": "512"}, 200, None, None),
        ({"size": "512x"}, 400, "invalid_size", "size"),
        ({"size": "0x512"}, 400, "invalid_size", "size"),
        ({"size": "99999x99999"}, 400, "invalid_size", "size"),
        ({"quality": "best"}, 400, "invalid_value", "quality"),
        ({"background": "transparent"}, 400, "invalid_value", "background"),
        ({"output_format": "gif"}, 400, "invalid_value", "output_format"),
        ({"response_format": "path"}, 400, "invalid_value", "response_format"),
        ({"partial_images": 4, "stream": True}, 400, "invalid_value", "partial_images"),
        ({"seed": -1}, 400, "invalid_value", None),
        ({"steps": "many"}, 400, "invalid_value", "steps"),
        ({"steps": 1}, 400, "bad_steps", "steps"),
        ({"sampler": "magic"}, 400, "unknown_sampler", "sampler"),
        ({"num_inference_steps": 9}, 400, "unknown_parameter", "num_inference_steps"),
        ({"device": "cuda"}, 400, "unknown_parameter", "device"),
        ({"fidelity": 0.5}, 400, "invalid_value", "fidelity"),
    ],
)
def test_an_error_names_the_field_and_says_what_to_do(server, value, status, code, param):
    answer = server.generate(**value)
    assert answer.status == status, answer.body
    if status != 200:
        assert (answer.error["code"], answer.error["param"]) == (code, param)
        assert answer.error["type"] == "invalid_request_error"
        assert answer.headers["x-should-retry"] == "false"
        assert len(answer.error["message"].splitlines()) <= 3


def test_an_error_has_our_own_facts_inside(server):
    error = server.generate(steps=1).error
    assert error["dalle"]["error"] == "BadSteps"
    assert error["dalle"]["exit_code"] == 2
    assert error["message"].startswith(error["dalle"]["what"])


def test_options_in_hints_are_called_as_the_fields_are(server):
    answer = server.form("/v1/images/edits", ("prompt", "x"), ("image", png()), ("mask", png()))
    assert answer.error["message"] == "this mask has no transparency\nwhere: mask\nhint: use mask_mode white"


def test_every_error_of_every_path_has_the_shape_of_the_api(server):
    paths = ["/nope", "/page/nope.js", "/dalle/pictures/x", "/dalle/jobs/x/events"]
    paths += ["/v1/responses", "/v1/images", "/files/x", "/v1/models/x", "/files/../etc/passwd"]
    asked = [(method, path) for path in paths for method in ("GET", "POST", "DELETE", "PUT")]
    asked += [("GET", "/v1/images/edits"), ("DELETE", "/v1/models"), ("POST", "/health")]
    for method, path in asked:
        answer = server.ask(method, path, b"{}" if method == "POST" else None, JSON)
        assert answer.status in (403, 404, 405), (method, path)
        assert set(answer.error) == {"message", "type", "param", "code", "dalle"}
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.headers["x-request-id"]) == 16
    assert existing() in server.get("/v1/chat/completions").error["message"]


def test_a_url_is_never_fetched_and_a_path_never_read(server, tmp_path):
    (tmp_path / "private.png").write_bytes(png())
    for value in ("http://127.0.0.1:1/x.png", "file:///etc/passwd", str(tmp_path / "private.png"), "https://e.org/a"):
        answer = server.post("/v1/images/variations", {"image": value})
        assert (answer.status, answer.error["param"]) == (400, "image"), value
    for name in set(DIALS) - {"negative"}:  # which is a sentence
        assert server.generate(**{name: str(tmp_path / "private.png")}).status == 400, name
    for name in ("init", "image", "images", "mask", "continue", "path", "output"):
        answer = server.generate(**{name: str(tmp_path / "private.png")})
        assert answer.error["code"] == "unknown_parameter", name


@pytest.mark.parametrize("values", [[], [("size", "200x120")], [("expand", "left=28")]], ids=str)
def test_an_unfinished_picture_of_a_repainting_is_as_large_as_the_finished_one(server, values):
    parts = [("image", png(size=(100, 80))), ("mask", hole()), ("prompt", "a cat"), ("stream", "true")]
    events = server.form("/v1/images/edits", *parts, ("partial_images", "2"), *values).events
    assert [event["type"] for event in events] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert len({picture(event).size for event in events}) == 1
    assert picture(events[0]).getpixel((50, 2)) == picture(events[-1]).getpixel((50, 2))


# Health and metrics


def test_health_is_ready_when_the_model_is_open(server):
    assert server.get("/ready").status == 200
    state = server.get("/health").json
    assert (state["status"], state["model"]) == ("ok", "starter")


def test_metrics_count_and_have_nothing_of_a_prompt(server):
    before = server.metric("dalle_images_total")
    server.generate(prompt="a very secret zebra", n=2)
    text = server.get("/metrics").body.decode()
    assert server.metric("dalle_images_total") == before + 2
    assert "zebra" not in text
    for line in text.splitlines():
        assert line.startswith(("# HELP dalle_", "# TYPE dalle_", "dalle_"))
    buckets = [line for line in text.splitlines() if line.startswith("dalle_batch_images_bucket")]
    counts = [int(line.split()[-1]) for line in buckets]
    assert counts == sorted(counts)
    assert 'le="+Inf"' in buckets[-1]


def test_the_log_has_no_word_of_a_prompt_and_no_token(tmp_path):
    token = "s3cret-s3cret-s3cret"
    with process(tmp_path, DALLE_TOKEN=token) as talk:
        talk.headers["Authorization"] = f"Bearer {token}"
        assert talk.generate(prompt="a very secret zebra").status == 200
        assert talk.get(f"/v1/models?api_key={token}").status == 200
        log = talk.logged("POST /images/generations 200")
        assert "zebra" not in log
        assert token not in log


def test_a_page_that_is_open_does_not_fill_the_log(tmp_path):
    with process(tmp_path, DALLE_HOME=str(tmp_path)) as talk:
        assert [talk.get(path).status for path in ("/dalle/state", "/page/app.js", "/page/none.js")] == [200, 200, 404]
        talk.generate()
        log = talk.logged("POST /images/generations 200")
    lines = [line.split(maxsplit=1)[1] for line in log.splitlines() if " ms" in line]
    assert [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines] == [
        "GET /page/{name} 404",
        "POST /images/generations 200",
    ]


def test_prompts_are_in_the_log_where_that_is_asked_for(tmp_path):
    with process(tmp_path, "--log-prompts") as talk:
        talk.generate(prompt="a secret\x1b[31m zebra")
        assert "\x1b" not in talk.logged("zebra")


def test_a_strict_server_refuses_sizes_that_the_model_does_not_paint(tmp_path):
    with process(tmp_path, "--strict-size") as talk:
        assert talk.generate(size="64x64").json["dalle"]["painted"] == "64x64"
        answer = talk.generate(size="512x512")
        assert (answer.status, answer.error["code"]) == (400, "invalid_size")
        assert "16, 64, 256" in answer.error["message"]
        assert talk.generate(size="1792x1024").error["param"] == "size"
        assert talk.generate(size="96x64").json["dalle"]["painted"] == "96x64"


def test_urls_begin_as_the_owner_says(tmp_path):
    with process(tmp_path, "--public-url", "https://pictures.example.org/dalle/") as talk:
        (entry,) = talk.generate().data
        assert entry["url"].startswith("https://pictures.example.org/dalle/files/")


def test_a_cut_is_the_middle_of_what_was_painted():
    from dallecli.server.sizes import Size, fitted

    image = Image.new("RGB", (256, 256), "black")
    image.paste((255, 255, 255), (0, 64, 256, 192))
    wide = fitted(image, Size(256, 128))
    assert wide.getextrema() == ((255, 255),) * 3
