"""`python -m atlas_ray.chat`: see `show.py`."""

from atlas_ray.chat.show import main

if __name__ == "__main__":
    main()
