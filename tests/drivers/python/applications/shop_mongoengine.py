"""A shop with MongoEngine, an ODM on PyMongo's synchronous API."""

import hashlib

import mongoengine as me
from mongoengine.connection import get_db
from telling import CONTENT, DATABASE, URI, own, tell


class Address(me.EmbeddedDocument):
    city = me.StringField()


class Customer(me.Document):
    key = me.StringField(primary_key=True)
    name = me.StringField(unique=True)
    addresses = me.EmbeddedDocumentListField(Address)
    meta = {"collection": "customers", "allow_inheritance": True}


class Firm(Customer):
    vat = me.IntField()


class Order(me.Document):
    key = me.StringField(primary_key=True)
    number = me.IntField(unique_with="customer")
    customer = me.ReferenceField(Customer, reverse_delete_rule=me.CASCADE)
    lines = me.ListField(me.DictField())
    total = me.DecimalField(precision=2)
    meta = {"collection": "orders_me", "indexes": ["-total", {"fields": ["customer", "-total"]}]}


class Manual(me.Document):
    key = me.StringField(primary_key=True)
    paper = me.FileField(collection_name="papers")
    meta = {"collection": "manuals"}


def plain(document):
    return document.to_mongo().to_dict()


def documents():
    ada = Customer(key=own("ada"), name="Ada", addresses=[Address(city="London")]).save()
    firm = Firm(key=own("firm"), name="Firm", vat=7).save()
    Order(key=own(1), number=1, customer=ada, total="10.50", lines=[{"sku": "tea", "n": 2}]).save()
    Order.objects.insert([Order(key=own(n), number=n, customer=firm, total=n) for n in range(2, 6)])
    ada.addresses.append(Address(city="Rome"))
    ada.save()
    told = {"updated": Order.objects(total__gte=4).update(inc__total=1, push__lines={"sku": "cup"})}
    told["modified"] = plain(Order.objects(key=own(1)).modify(set__number=11, new=True))
    told["upserted"] = plain(Customer.objects(key=own("new")).upsert_one(set__name="New"))
    told["joined"] = [one.customer.name for one in Order.objects.order_by("key").select_related()]
    told["kinds"] = [type(one).__name__ for one in Customer.objects.order_by("key")]
    told["cities"] = sorted(Customer.objects.distinct("addresses.city"))
    told["sum"] = str(Order.objects.sum("total"))
    told["freely"] = list(Order.objects.aggregate([{"$group": {"_id": "$customer", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]))
    told["slice"] = [one.key for one in Order.objects.order_by("-number")[1:3].only("key")]
    try:
        Customer(key=own("again"), name="Ada").save(force_insert=True)
    except me.NotUniqueError as failure:
        told["twice"] = str(failure)
    firm.delete()
    told["left"] = [plain(one) for one in Order.objects]
    tell("documents", told)


def files():
    manual = Manual(key=own("m"))
    manual.paper.put(CONTENT, filename="manual", content_type="text/plain")
    manual.save()
    found = Manual.objects(key=own("m")).first()
    told = {"whole": hashlib.sha256(found.paper.read()).hexdigest(), "type": found.paper.content_type}
    found.paper.delete()
    told["left"] = [get_db()[name].count_documents({}) for name in ("papers.files", "papers.chunks")]
    tell("files", told)


def indexes():
    tell("indexes", {name: dict(index) for name, index in Order._get_collection().index_information().items()})


def main():
    me.connect(DATABASE, host=URI)
    for model in (Customer, Order, Manual):
        model.ensure_indexes()
        model.objects.count()
    documents()
    files()
    indexes()
    me.disconnect()


if __name__ == "__main__":
    main()
