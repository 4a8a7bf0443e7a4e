"""What every flavor's entry points share: the pod they were given, and what its apps need."""
