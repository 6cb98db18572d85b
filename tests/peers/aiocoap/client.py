"""A CoAP client of aiocoap on tinydtls, with a pre-shared key: posts a payload and prints the code.

    client.py URI IDENTITY KEY_HEX PAYLOAD...
"""

import asyncio
import sys

import aiocoap


async def main(uri, identity, key, payloads):
    context = await aiocoap.Context.create_client_context(transports=["tinydtls"])
    context.client_credentials.load_from_dict(
        {
            uri: {
                "dtls": {
                    "psk": {"hex": key},
                    "client-identity": {"ascii": identity},
                }
            }
        }
    )
    for payload in payloads:
        request = aiocoap.Message(
            code=aiocoap.POST, uri=uri, payload=payload.encode(), content_format=50
        )
        response = await asyncio.wait_for(context.request(request).response, 20)
        print("answered", response.code.dotted, flush=True)
    await context.shutdown()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
