"""A headless Chromium without network, to look at pages with."""

import shutil
from contextlib import contextmanager, suppress

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "chromium, chromedriver (apt-get install chromium chromium-driver) and selenium"


PATIENCE = 60  # seconds until what must happen counts as not happening: a loaded machine is slow, not wrong


def _start(options, tries=3):
    """Start the browser: its driver's port is found free and then taken, which another process may do first."""
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException

    for left in range(tries - 1, -1, -1):
        try:
            return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        except WebDriverException:
            if not left:
                raise
    raise AssertionError


def eventually(driver, script, wanted, *arguments):
    """Wait until a script returns what is wanted; what it returns at the end must be that."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    with suppress(TimeoutException):
        WebDriverWait(driver, PATIENCE, 0.02).until(lambda _: driver.execute_script(script, *arguments) == wanted)
    assert driver.execute_script(script, *arguments) == wanted


def open_page(driver, address, size, scheme="light"):
    """Open a page of ours in a size and a scheme, and wait until it says that it is ready."""
    resize(driver, *size)
    prefer(driver, scheme)
    driver.get(address)
    eventually(driver, "return [document.documentElement.dataset.ready, innerWidth]", ["yes", size[0]])


@contextmanager
def chromium(width=1400, height=1000):
    """Start Debian's Chromium, offline, of a given size."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = _start(options)
    try:
        resize(driver, width, height)
        driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        yield driver
    finally:
        driver.quit()


def resize(driver, width, height):
    """Set the size of the page; a window cannot be as narrow as a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def prefer(driver, scheme):
    """Let the reader prefer light or dark pages."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def errors(driver) -> list[str]:
    """Return what the console says, warnings included."""
    return [entry["message"] for entry in driver.get_log("browser")]
