"""What a run will need, before any accelerator is rented: memory, time, network (``kmm plan``)."""
