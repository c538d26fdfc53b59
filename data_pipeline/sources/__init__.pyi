from .drawn_tracks import signals_along as signals_along
from .genome import UNPLACED as UNPLACED
from .ingestion import ingest as ingest
from .settings import StoreSettings as StoreSettings
