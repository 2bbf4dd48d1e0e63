"""A task manager with Beanie, an ODM on PyMongo's asyncio API."""

import asyncio
from datetime import datetime
from typing import Annotated, Optional

from beanie import BackLink, Document, Indexed, Link, WriteRules, init_beanie
from beanie.operators import In, Inc, Set
from pydantic import Field
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError

from telling import DATABASE, URI, error, own, tell


class Person(Document):
    id: str
    name: Annotated[str, Indexed(unique=True)]
    tasks: list[BackLink["Task"]] = Field(default=[], json_schema_extra={"original_field": "owner"})

    class Settings:
        name = "people"


class Task(Document):
    id: str
    title: str
    state: Annotated[str, Indexed()] = "open"
    effort: int = 1
    due: Optional[datetime] = None
    owner: Optional[Link[Person]] = None

    class Settings:
        name = "tasks"
        use_revision = True
        indexes = [[("state", 1), ("effort", -1)]]


def plain(document):
    return document.model_dump(mode="json", exclude={"revision_id", "tasks"})


async def documents():
    ada = await Person(id=own("ada"), name="Ada").insert()
    await Person.insert_many([Person(id=own("bob"), name="Bob"), Person(id=own("eve"), name="Eve")])
    task = Task(id=own(1), title="write", owner=ada, effort=3)
    await task.insert()
    await Task(id=own(2), title="read", owner=Person(id=own("new"), name="New")).insert(link_rule=WriteRules.WRITE)
    await Task.insert_many([Task(id=own(n), title=f"t{n}", effort=n) for n in range(3, 8)])
    task.title = "rewrite"
    await task.save()
    await Task.find(Task.effort > 5).update(Set({Task.state: "late"}), Inc({Task.effort: 1}))
    await Task.find_one(Task.id == own(4)).upsert(Set({Task.state: "done"}), on_insert=Task(id=own(4), title="x"))
    await Task.find(In(Task.title, ["t5"])).delete()
    told = {"all": [plain(one) for one in await Task.find_all().sort("+_id").to_list()]}
    told["count"], told["open"] = await Task.count(), await Task.find(Task.state == "open").count()
    try:
        await Person(id=own("again"), name="Ada").insert()
    except DuplicateKeyError as failure:
        told["twice"] = error(failure)
    tell("documents", told)


async def links():
    fetched = await Task.find(Task.owner.name == "Ada", fetch_links=True).to_list()
    people = await Person.find(Person.name == "Ada", fetch_links=True).to_list()
    tell("links", {"tasks": [plain(one) for one in fetched], "titles": [one.title for one in people[0].tasks]})


async def aggregation():
    totals = [{"$group": {"_id": "$state", "effort": {"$sum": "$effort"}}}, {"$sort": {"_id": 1}}]
    told = {"totals": await Task.aggregate(totals).to_list(), "average": await Task.find(Task.state == "open").avg(Task.effort)}
    tell("aggregation", told)


async def transaction(client):
    async with client.start_session() as session:

        async def work(session):
            await Person(id=own("tx"), name="Tx").insert(session=session)
            return await Person.find_all(session=session).count()

        inside = await session.with_transaction(work)
        async with await session.start_transaction():
            await Person(id=own("never"), name="Never").insert(session=session)
            await session.abort_transaction()
    tell("transaction", [inside, await Person.count()])


async def indexes():
    listed = await Task.get_pymongo_collection().index_information()
    tell("indexes", {name: dict(index) for name, index in listed.items()})


async def main():
    async with AsyncMongoClient(URI) as client:
        await init_beanie(client[DATABASE], document_models=[Person, Task])
        await documents()
        await links()
        await aggregation()
        await transaction(client)
        await indexes()


if __name__ == "__main__":
    asyncio.run(main())
