"""The live price of compute: the one knob between accuracy and cost."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from service.http.answers import PriceAnswer
from service.http.body import read_body, reply
from service.http.context import exchange, services
from service.http.schemas import PriceRequest


async def read_price(request: Request) -> Response:
    """Tell what routing pays for compute now, and why."""
    return _tell(request)


async def set_price(request: Request) -> Response:
    """Set the price from the next batch on; null goes back to the model's own."""
    body = await read_body(request, PriceRequest)
    services(request).overload.set_price(body.price)
    exchange(request).fields["price"] = body.price
    return _tell(request)


def _tell(request: Request) -> Response:
    overload = services(request).overload
    surcharge = overload.price.surcharge
    return reply(
        request,
        PriceAnswer(
            price=overload.effective,
            set_price=overload.price.base,
            surcharge=surcharge,
            reason=overload.reason,
            pressure=overload.state.pressure,
        ),
    )
