"""A labelling pipeline. Run it again: every request has an id, so nothing is bought twice."""

import os

from isocost.client import Campaign, Item, Label, Money, Purpose, Source, SourceKind, SyncBudgetClient, Task, one_hot

texts = ["Loved it.", "Broke in a day.", "Works, and I loved the look.", "Never again."]
task = Task("reviews", "Review: {text}\nIs this review positive?", choices=("no", "yes"))
with SyncBudgetClient(os.environ.get("ISOCOST_ADDRESS", "127.0.0.1:7601")) as budget:
    budget.create_campaign("create", Campaign("reviews", task, budget=Money.parse("5.00"), strong_model="my-model"))
    budget.create_source("source", "reviews", Source("human", SourceKind.HUMAN, unit_price=Money.parse("0.50")))
    budget.add_items("items", "reviews", (Item(f"r{n}", {"text": text}) for n, text in enumerate(texts)))
    order = budget.create_order("order", "reviews", "human", Purpose.TRAINING, n_labels=2)
    said = {item.item_id: "loved" in item.fields["text"].lower() for item in budget.order_items(order.order_id)}
    budget.submit_labels("labels", order.order_id, [Label(item_id, one_hot(yes, 2)) for item_id, yes in said.items()])
    balance = budget.get_campaign("reviews").balance
    print(f"{balance.settled} of {balance.budget} spent, {balance.available} left")
