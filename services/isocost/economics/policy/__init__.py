"""What to buy next: policies behind the budget service's Plan and `isocost replay`. Pure: the same inputs, the same
decision."""
