"""KServe's own client library, unchanged, against a daemon: what it got, as JSON on one line.

In a process of its own: its messages have the names of Triton's, and one process takes only one.
`python kserve_client.py http://HOST:PORT HOST:PORT FILE.npy`
"""

import asyncio
import json
import sys
import warnings

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the servers that it brings, none of which are used
    import grpc
    import httpx
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig
    from kserve.protocol.infer_type import RequestedOutput


def request(pictures, binary, **more):
    given = InferInput("picture", list(pictures.shape), "UINT8")
    given.set_data_from_numpy(pictures, binary_data=binary)
    return InferRequest("alexnet", [given], **{"parameters": {"deadline_ms": 5000}} | more)


def reported(answer):
    by_name = {o.name: o for o in answer.outputs}
    return {
        "id": answer.id,
        "model": [answer.model_name, answer.model_version],
        "values": {n: np.asarray(o.as_numpy()).ravel().tolist() for n, o in by_name.items()},
        "types": {n: o.datatype for n, o in by_name.items()},
    }


def cases(pictures):
    """Named requests; each goes over both."""
    classification = [RequestedOutput("confidence", {"classification": 1})]
    too_many = [RequestedOutput("confidence", {"classification": 3})]
    floats = InferInput("picture", list(pictures.shape), "FP32")
    floats.set_data_from_numpy(pictures.astype(np.float32), binary_data=True)
    return {
        "binary": request(pictures, True, request_id="r1"),
        "typed": request(pictures, False, request_id="r2"),
        "without id": request(pictures, True),
        "outputs": request(pictures, True, request_outputs=[RequestedOutput("exit")]),
        "classification": request(pictures, True, request_outputs=classification),
        "too many classes": request(pictures, True, request_outputs=too_many),
        "unknown parameter": request(pictures, True, parameters={"dedline_ms": 1}),
        "too soon": request(pictures, True, parameters={"timeout": 1}),
        "other datatype": InferRequest("alexnet", [floats]),
        "other model": request(pictures, True),
    }


async def rest(address, pictures):
    found = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        found["live"] = await client.is_server_live(address)
        found["ready"] = await client.is_server_ready(address)
        found["model ready"] = await client.is_model_ready(address, "alexnet")
        found["other ready"] = await client.is_model_ready(address, "other")
        for name, asked in cases(pictures).items():
            model = "other" if name == "other model" else "alexnet"
            try:
                found[name] = reported(await client.infer(address, asked, model_name=model))
            except httpx.HTTPStatusError as error:
                found[name] = [str(error.response.status_code), str(error)]
    return found


async def over_grpc(address, pictures):
    found = {}
    async with InferenceGRPCClient(address, retries=0) as client:
        found["live"] = await client.is_server_live()
        found["ready"] = await client.is_server_ready()
        found["model ready"] = await client.is_model_ready("alexnet")
        try:
            found["other ready"] = await client.is_model_ready("other")
        except grpc.RpcError as error:
            found["other ready"] = str(error.code())
        for name, asked in cases(pictures).items():
            if name == "other model":
                asked.model_name = "other"
            try:
                found[name] = reported(await client.infer(asked))
            except grpc.RpcError as error:
                found[name] = [str(error.code()), error.details()]
    return found


def main():
    _, address, target, file = sys.argv
    pictures = np.load(file)
    found = {
        "rest": asyncio.run(rest(address, pictures)),
        "grpc": asyncio.run(over_grpc(target, pictures)),
    }
    print(json.dumps(found, default=lambda value: value.decode()))


main()
