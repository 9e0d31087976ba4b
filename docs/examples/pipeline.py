"""A labelling pipeline. Run it again: every request has an id, so nothing is bought twice."""

import os

from isocost.client import Campaign, Item, Label, Money, Purpose, Source, SourceKind, SyncBudgetClient, Task, one_hot

texts = {"r1": "Loved it.", "r2": "Broke in a day.", "r3": "Works, and looks good.", "r4": "Never again."}
task = Task("reviews", "Review: {text}\nIs this review positive?", choices=("no", "yes"))

with SyncBudgetClient(os.environ.get("ISOCOST_ADDRESS", "127.0.0.1:7601")) as budget:
    budget.create_campaign("create", Campaign("reviews", task, budget=Money.parse("5.00"), strong_model="my-model"))
    budget.create_source("source", "reviews", Source("human", SourceKind.HUMAN, unit_price=Money.parse("0.50")))
    budget.add_items("items", "reviews", (Item(item_id, {"text": text}) for item_id, text in texts.items()))
    order = budget.create_order("order", "reviews", "human", Purpose.TRAINING, n_labels=2)
    answers = {"r1": 1, "r2": 0, "r3": 1, "r4": 0}  # what people say, by item
    items = budget.order_items(order.order_id)
    labels = [Label(item.item_id, one_hot(answers[item.item_id], 2), annotator="ann") for item in items]
    budget.submit_labels("labels", order.order_id, labels)
    balance = budget.get_campaign("reviews").balance
    print(f"{balance.settled} of {balance.budget} spent, {balance.available} left")
