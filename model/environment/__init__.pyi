from .id_teacher import IdTeacher as IdTeacher
from .profile_encoder import ProfileEncoder as ProfileEncoder
from .settings import EnvironmentSettings as EnvironmentSettings
from .student import CompetitionSettings as CompetitionSettings
from .student import Student as Student
from .support import LocalEnvironment as LocalEnvironment
from .support import SupportEncoder as SupportEncoder
from .support import query_attention as query_attention
