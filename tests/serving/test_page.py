"""The service's page in a real browser."""

import pytest

from tests.serving.archives import LABELS
from tests.tiny import SENTENCES

ATTACK = "</textarea><script>window.attacked = 1</script><img src=x onerror='window.attacked = 1'>"


@pytest.fixture
def page(browser, service):
    yield from open_page(browser, service, bypass_csp=True)  # or it could not be waited for


@pytest.fixture
def page_under_its_policy(browser, service):
    yield from open_page(browser, service)


def open_page(browser, service, **settings):
    opened = browser.new_page(viewport={"width": 390, "height": 800}, **settings)
    errors, addresses = [], []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console", lambda found: found.type in ("error", "warning") and errors.append(found.text)
    )
    opened.on("request", lambda request: addresses.append(request.url))
    opened.goto(service.address + "/")
    opened.locator("#load-threshold", has_text="0.7").wait_for()
    yield opened
    assert [error for error in errors if "429" not in error] == []
    assert all(address.startswith((service.address, "data:")) for address in addresses)
    opened.close()


def set_threshold(page, threshold):
    page.locator("#threshold").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }",
        str(threshold),
    )


def rows(page):
    return page.locator("#exits tbody tr").all()


def type_text(page, text, second=""):
    page.fill("#second", second)
    with page.expect_response(lambda response: response.url.endswith("/exits")):
        page.fill("#text", text)
    page.wait_for_function("document.getElementById('verdict').textContent !== ''")


def test_each_exit_and_where_the_text_exits_are_shown(page, alone):
    type_text(page, SENTENCES[0])
    for threshold in (0.0, 0.7, 1.0):
        set_threshold(page, threshold)
        (wanted,) = alone(SENTENCES[:1], threshold)
        here = page.locator("#exits tr.here")
        layer = wanted["exit_layer"]
        name = "before layer 0" if layer < 0 else f"after layer {layer}"
        assert here.locator("td").nth(0).inner_text() == name
        assert here.locator("td").nth(1).inner_text() == wanted["label"]
        assert here.locator("td").nth(2).inner_text() == f"{100 * wanted['confidence']:.1f} %"
        assert name in page.inner_text("#verdict")
    assert len(rows(page)) == 4
    assert "saves 0.0 %" in page.inner_text("#verdict")
    set_threshold(page, 0)
    assert "saves 100.0 %" in page.inner_text("#verdict")


def test_under_its_policy_it_works_and_runs_nothing_else(page_under_its_policy):
    page = page_under_its_policy
    page.fill("#text", SENTENCES[0])
    page.locator("#verdict", has_text="Answer: ").wait_for()
    assert page.locator("#exits tbody tr").count() == 4


def test_a_pair_is_shown(page, alone):
    type_text(page, SENTENCES[0], SENTENCES[1])
    set_threshold(page, 1)
    (wanted,) = alone([tuple(SENTENCES[:2])], 1.0)
    found = page.locator("#exits tr.here td").nth(2).inner_text()
    assert found == f"{100 * wanted['confidence']:.1f} %"


def test_what_is_typed_and_labels_are_never_html(page):
    type_text(page, ATTACK)
    shown = {row.locator("td").nth(1).inner_text() for row in rows(page)}
    assert shown <= set(LABELS)
    assert page.evaluate("window.attacked") is None
    assert page.locator("#exits b").count() == 0
    page.evaluate("exits[0].label = '<b>bold</b>'; showExits()")
    assert rows(page)[0].locator("td").nth(1).inner_text() == "<b>bold</b>"


def test_no_text_no_answer(page):
    type_text(page, SENTENCES[0])
    page.fill("#text", "")
    page.wait_for_function("document.getElementById('exits').hidden")
    assert page.inner_text("#verdict") == ""


def test_load_is_shown_and_nothing_is_wider_than_a_telephone(page, service):
    service.send("/answer", [{"sentence": text} for text in SENTENCES])
    page.wait_for_function(
        "[...document.querySelectorAll('#load-exits tr')].some(tr => +tr.cells[1].textContent > 0)"
    )
    page.wait_for_function("document.getElementById('load-median').textContent !== '–'")
    assert page.locator("#load-exits tr").count() == 4
    type_text(page, "word" * 500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_says_when_the_service_refuses(page):
    with page.expect_response(lambda response: response.url.endswith("/exits")):
        page.route("**/exits", lambda route: route.fulfill(status=429, json={"error": "<b>no</b>"}))
        page.fill("#text", "good")
    page.wait_for_function("document.getElementById('error').textContent === '<b>no</b>'")
    page.unroute("**/exits")
    page.evaluate("document.getElementById('error').textContent = ''")


def test_the_interfaces_are_described_without_another_server(browser, service):
    opened = browser.new_page()
    addresses = []
    opened.on("request", lambda request: addresses.append(request.url))
    opened.goto(service.address + "/docs")
    opened.locator(".opblock-summary-path", has_text="/answer").wait_for()
    assert opened.locator(".opblock").count() > 8
    assert len(addresses) > 3
    assert all(address.startswith((service.address, "data:")) for address in addresses)
    opened.close()
